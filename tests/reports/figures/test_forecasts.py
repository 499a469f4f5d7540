from io import BytesIO

import numpy as np
import pytest
from matplotlib.text import Text

from foretrace.reports.figures.forecasts import fan_chart, feature_lines, prediction_and_truth

NAMES = ["height", "angle", "speed"]
UNITS = ["m", "rad", "m/s"]
DATES = np.datetime64("2016-07-01") + np.arange(60) * np.timedelta64(1, "h")


@pytest.fixture
def waves():
    truth = np.sin(np.arange(60)[:, None] / np.array([5.0, 7.0, 11.0]))
    return truth + 0.1, truth


def png(figure):
    figure.savefig(file := BytesIO(), format="png")
    return file.getvalue()


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_prediction_truth_and_error_share_one_scale(waves):
    figure = prediction_and_truth(*waves, feature_names=NAMES, dt_s=0.1)
    images = [axes.images[0] for axes in figure.axes[:3]]
    assert len({image.get_clim() for image in images}) == 1
    np.testing.assert_allclose(images[2].get_array().T, 0.1)
    assert images[0].get_clim()[0] == -images[0].get_clim()[1]


def test_scale_of_a_forecast_that_runs_away_is_that_of_the_truth(waves):
    runaway = waves[0] * np.exp(np.arange(60))[:, None]
    tame, wild = (
        prediction_and_truth(p, waves[1], feature_names=NAMES, dt_s=0.1) for p in (waves[0], runaway)
    )
    assert tame.axes[0].images[0].get_clim() == wild.axes[0].images[0].get_clim()
    lines = feature_lines(runaway, waves[1], feature_names=NAMES, units=UNITS, dt_s=0.1)
    assert max(axes.get_ylim()[1] for axes in lines.axes) < 5


def test_pictures_carry_names_units_time_and_error(waves):
    picture = prediction_and_truth(*waves, feature_names=NAMES, dt_s=0.1, title="gait 3")
    lines = feature_lines(*waves, feature_names=NAMES, units=UNITS, dt_s=None)
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == NAMES
    assert "in units of the training standard deviation" in texts(picture)
    assert "RMS error 0.1 training standard deviations" in texts(picture)
    assert "gait 3" in texts(picture)
    assert "time (s)" in texts(picture)
    assert [axes.get_ylabel() for axes in lines.axes] == UNITS
    assert "time (steps)" in texts(lines)


@pytest.mark.parametrize("draw", [feature_lines, prediction_and_truth])
def test_time_axis_of_dated_rows_shows_dates(waves, draw):
    units = {"units": UNITS} if draw is feature_lines else {}
    figure = draw(*waves, feature_names=NAMES, dt_s=3600, dates=DATES, **units)
    png(figure)
    assert "2016-Jul" in texts(figure)
    assert "time (s)" not in texts(figure)


def test_any_name_is_shown_as_it_was_written():
    names = ["$x_1$", "100 % _of_ it", "a\nb", "🤖", "n" * 80, "<b>&", r"\frac{1}{2}", "$"]
    wave = np.sin(np.arange(20.0))[:, None].repeat(len(names), axis=1)
    picture = prediction_and_truth(wave, wave, feature_names=names, dt_s=0.1, title=" ".join(names))
    png(picture)
    png(feature_lines(wave, wave, feature_names=names, units=names, dt_s=0.1, title="$"))
    shown = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert shown[1:4] == ["100 % _of_ it", "a b", "\ufffd"]
    assert shown[0] == r"\$x_1\$"  # the backslash, which is not drawn, keeps $ from starting mathematics
    assert "…" in shown[4]


def test_forecasts_that_are_not_finite_are_counted(waves):
    prediction, truth = (values.copy() for values in waves)
    prediction[3:5, 0] = np.nan, np.inf
    lines = feature_lines(prediction, truth, feature_names=NAMES, units=UNITS, dt_s=1)
    assert "2 of 180 values not finite" in texts(lines)
    png(prediction_and_truth(prediction, truth, feature_names=NAMES, dt_s=1))


def test_of_many_features_the_worst_are_shown():
    truth = np.random.default_rng(0).normal(size=(20, 60))
    prediction = truth + np.where(np.arange(60) == 41, 3.0, 0.1)
    names = [f"f{number}" for number in range(60)]
    figure = feature_lines(prediction, truth, feature_names=names, units=[""] * 60, dt_s=None)
    assert "12 of 60 features" in texts(figure)
    assert figure.axes[0].get_title(loc="left") == "f41"


def test_one_step_and_one_feature_are_enough():
    png(prediction_and_truth([[1.0]], [[2.0]], feature_names=["a"], dt_s=None))
    png(feature_lines([[1.0]], [[2.0]], feature_names=["a"], units=["m"], dt_s=None))
    png(fan_chart([[1.0]], [[2.0]], bands={}, feature_names=["a"], units=["m"], dt_s=None))


def test_fan_chart_draws_each_band_from_the_last_recorded_value_on(waves):
    past, ahead = waves[1][:40], waves[0][40:]
    bands = {level: (ahead - level / 100, ahead + level / 100) for level in (50, 90)}
    figure = fan_chart(
        past, ahead, bands=bands, truth=waves[1][40:], feature_names=NAMES, units=UNITS, dt_s=0.1
    )
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["90% interval", "50% interval", "recorded", "what came", "forecast"]
    wide, narrow = (band.get_paths()[0].vertices for band in figure.axes[0].collections)
    assert np.ptp(wide[:, 1]) > np.ptp(narrow[:, 1])
    assert wide[:, 0].min() == pytest.approx(3.9)


def test_fan_chart_without_bands_speaks_of_none(waves):
    figure = fan_chart(waves[1], waves[0][:5], bands={}, feature_names=NAMES, units=UNITS, dt_s=0.1)
    assert "interval" not in texts(figure)
    assert "what came" not in texts(figure)
