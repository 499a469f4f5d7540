import re

import numpy as np
import pytest

from foretrace.data.simulation.kinematics import locate_limbs
from foretrace.data.simulation.robots import ROBOTS
from foretrace.reports.figures import quality, skeleton
from foretrace.reports.render import Picture, Section, Table, render

EVIL = '<script>alert(1)</script>"&'


@pytest.fixture
def page():
    figure = quality.error_by_position({"model": [0.3, 0.1]}, warm=0.1)
    table = Table(EVIL, (EVIL, "b"), ((EVIL, EVIL),))
    pictures = (Picture(figure, caption=EVIL, alt=EVIL), Picture(b"GIF89a", caption="", alt="moves"))
    section = Section(EVIL, text=(EVIL,), tables=(table,), pictures=pictures)
    return render(EVIL, verdict=[EVIL], good=False, sections=[section])


def test_no_name_runs_in_the_page(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 12  # wherever it was given, as text
    assert "default-src 'none'" in page


def test_the_page_needs_nothing_but_itself(page):
    assert set(re.findall(r'(?:src|href)="([a-z#]+)', page)) == {"data", "#s"}
    assert "http://" not in page
    assert "https://" not in page
    assert "data:image/gif;base64" in page
    assert "data:image/png;base64" in page


def test_good_and_bad_news_look_different():
    assert 'class="verdict"' in render("t", verdict=["fine"], good=True, sections=[])
    assert 'class="verdict bad"' in render("t", verdict=["no"], good=False, sections=[])


def test_a_forecast_that_runs_away_does_not_hide_the_others():
    errors = {"model": [0.1, 0.2, 0.3], "persistence": [0.2, 0.4, 0.8], "velocity": [1, 1e6, 1e30]}
    axes = quality.error_by_horizon(errors, dt_s=0.01).axes[0]
    assert axes.get_ylim()[1] < 100
    assert {line.get_linestyle() for line in axes.lines if line.get_label() in errors} == {"-", "--", ":"}


def test_the_skill_map_says_each_value():
    axes = quality.skill_map([[0.5, -20.0]], feature_names=["$x$"], horizons=[1, 100]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.50", "< -10"]


def test_residuals_of_white_noise_do_not_tell_of_the_next():
    noise = np.random.default_rng(0).normal(size=(2000, 2))
    histogram, lags = quality.residuals([noise, noise]).axes
    assert "kurtosis 2.9" in histogram.get_title(loc="left")
    assert abs(lags.lines[0].get_ydata()[1:]).max() < 0.1


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_keeps_the_length_of_its_limbs(robot):
    states = 0.3 * np.random.default_rng(0).normal(size=(5, 17))
    still, moving = locate_limbs(robot, [np.zeros((5, 17)), states], dt_s=0.01)
    lengths = [
        np.linalg.norm(limbs.ends_m[:, :, 1] - limbs.ends_m[:, :, 0], axis=-1) for limbs in (still, moving)
    ]
    np.testing.assert_allclose(lengths[1], lengths[0], atol=1e-9)
    assert len(still.names) >= 7
    assert not np.allclose(still.ends_m, moving.ends_m)


def test_the_animation_is_small_and_moves(tmp_path, monkeypatch):
    from io import BytesIO

    from PIL import Image

    monkeypatch.chdir(tmp_path)
    states = np.cumsum(0.05 * np.random.default_rng(0).normal(size=(40, 17)), axis=0)
    limbs = locate_limbs("halfcheetah", [states, states * 0.5], dt_s=0.05)
    packed = skeleton.animate(*limbs, error=np.linspace(0, 1, 40), dt_s=0.05)
    assert len(packed) < 1_000_000
    assert Image.open(BytesIO(packed)).n_frames == 40
    assert list(tmp_path.iterdir()) == []
