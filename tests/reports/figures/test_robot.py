import numpy as np
import pytest
from PIL import Image

from foretrace.data.simulation.robots import ROBOTS, locate_limbs
from foretrace.reports.figures.robot import animate


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_keeps_the_length_of_its_limbs(robot):
    states = 0.3 * np.random.default_rng(0).normal(size=(5, 17))
    still, moving = (locate_limbs(robot, run, dt_s=0.01) for run in (np.zeros((5, 17)), states))
    lengths = [np.linalg.norm(run.ends_m[:, :, 1] - run.ends_m[:, :, 0], axis=-1) for run in (still, moving)]
    np.testing.assert_allclose(lengths[1], lengths[0], atol=1e-9)
    assert len(still.far_side) >= 7
    assert not np.allclose(still.ends_m, moving.ends_m)


def test_animation_of_a_forecast_that_runs_away_is_small_and_moves(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write its log
    states = np.cumsum(0.05 * np.random.default_rng(0).normal(size=(40, 17)), axis=0)
    limbs = [locate_limbs("halfcheetah", run, dt_s=0.05) for run in (states, states * 0.5)]
    limbs[1].ends_m[30:35], limbs[1].ends_m[35:] = 1e300, np.nan
    animate(tmp_path / "a.gif", *limbs, error=np.linspace(0, 1, 40), dt_s=0.05)
    assert (tmp_path / "a.gif").stat().st_size < 1_000_000
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 30
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
    assert capfd.readouterr() == ("", "")
