import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from foretrace.reports.figures.forecasts import feature_lines, prediction_and_truth
from foretrace.reports.figures.learning import error_by_epoch, loss_by_batch

NAMES = ["height", "angle", "speed"]
UNITS = ["m", "rad", "m/s"]


@pytest.fixture
def waves():
    truth = np.sin(np.arange(60)[:, None] / np.array([5.0, 7.0, 11.0]))
    return truth + 0.1, truth


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_prediction_truth_and_error_are_on_one_scale(waves):
    figure = prediction_and_truth(*waves, feature_names=NAMES, dt_s=0.1)
    images = [axes.images[0] for axes in figure.axes[:3]]
    assert len({image.get_clim() for image in images}) == 1
    np.testing.assert_allclose(images[2].get_array().T, 0.1)
    assert images[0].get_clim()[0] == -images[0].get_clim()[1]


def test_a_forecast_that_runs_away_does_not_change_the_scale(waves):
    runaway = waves[0] * np.exp(np.arange(60))[:, None]
    tame, wild = (
        prediction_and_truth(p, waves[1], feature_names=NAMES, dt_s=0.1) for p in (waves[0], runaway)
    )
    assert tame.axes[0].images[0].get_clim() == wild.axes[0].images[0].get_clim()
    lines = feature_lines(runaway, waves[1], feature_names=NAMES, units=UNITS, dt_s=0.1)
    assert max(axes.get_ylim()[1] for axes in lines.axes) < 5


def test_the_pictures_say_their_unit_and_the_error(waves):
    figure = prediction_and_truth(*waves, feature_names=NAMES, dt_s=0.1)
    assert "in units of the training standard deviation" in texts(figure)
    assert "RMS error 0.1 training standard deviations" in texts(figure)


def test_pictures_carry_names_units_and_time(waves):
    picture = prediction_and_truth(*waves, feature_names=NAMES, dt_s=0.1, title="gait 3")
    lines = feature_lines(*waves, feature_names=NAMES, units=UNITS, dt_s=None)
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == NAMES
    assert "gait 3" in texts(picture)
    assert "time (s)" in texts(picture)
    assert [axes.get_ylabel() for axes in lines.axes] == UNITS
    assert "time (steps)" in texts(lines)


def test_the_steps_of_the_learning_rate_and_the_best_epoch_are_marked():
    epochs = np.arange(50)
    rates = np.where(epochs < 25, 1e-3, 1e-4)
    errors = 1 / (epochs + 1.0)
    figure = error_by_epoch(epochs, train=errors, valid=errors, lr=rates, best_epoch=49)
    assert "lr 0.0001" in texts(figure)
    assert "best validation: 0.02 in epoch 49" in texts(figure)
    assert any(np.allclose(line.get_xdata(), 24.5) for line in figure.axes[0].lines)


def test_a_learning_rate_that_always_changes_gets_a_panel():
    epochs = np.arange(50)
    figure = error_by_epoch(epochs, train=epochs + 1, valid=epochs + 1, lr=0.9**epochs, best_epoch=None)
    assert len(figure.axes) == 2


def test_one_epoch_and_unknown_errors_can_be_drawn():
    png(error_by_epoch([0], train=[0.3], valid=[np.nan], lr=[1e-3], best_epoch=0))
    unknown = error_by_epoch([1, 2], train=[np.nan] * 2, valid=[np.nan] * 2, lr=[np.nan] * 2, best_epoch=None)
    assert "no finite values" in texts(unknown)
    png(unknown)


def test_a_best_epoch_that_was_never_run_is_refused():
    with pytest.raises(ValueError, match="best epoch from 0 to 1, received 7"):
        error_by_epoch([0, 1], train=[2, 1], valid=[2, 1], lr=[1, 1], best_epoch=7)


@pytest.mark.parametrize("count", [1, 2, 500, 300_000])
def test_any_number_of_batches_makes_a_small_picture(count):
    losses = np.exp(-np.arange(count) / count) + 0.01 * np.random.default_rng(0).random(count)
    assert len(png(loss_by_batch(np.arange(count), losses))) < 300_000


def test_losses_that_are_not_finite_are_shown():
    figure = loss_by_batch(np.arange(5), [1, 2, np.nan, np.inf, 3])
    assert "not finite: 2, the first at 2" in texts(figure)
    png(figure)


def test_any_name_can_be_drawn():
    names = ["$x_1$", "100 % _of_ it", "a\nb", "🤖", "n" * 80, "<b>&", r"\frac{1}{2}", "$"]
    wave = np.sin(np.arange(20.0))[:, None].repeat(len(names), axis=1)
    picture = prediction_and_truth(wave, wave, feature_names=names, dt_s=0.1, title=" ".join(names))
    png(picture)
    png(feature_lines(wave, wave, feature_names=names, units=names, dt_s=0.1, title="$"))
    shown = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert shown[1:4] == ["100 % _of_ it", "a b", "\ufffd"]
    assert shown[0] == r"\$x_1\$"  # the backslash, which is not drawn, keeps $ from starting mathematics
    assert len(shown[4]) == 28


def test_forecasts_that_are_not_finite_are_counted(waves):
    prediction, truth = (values.copy() for values in waves)
    prediction[3:5, 0] = np.nan, np.inf
    assert "2 of 180 values not finite" in texts(
        feature_lines(prediction, truth, feature_names=NAMES, units=UNITS, dt_s=1)
    )
    png(prediction_and_truth(prediction, truth, feature_names=NAMES, dt_s=1))


def test_of_many_features_the_worst_are_shown():
    truth = np.random.default_rng(0).normal(size=(20, 60))
    prediction = truth + np.where(np.arange(60) == 41, 3.0, 0.1)
    names = [f"f{number}" for number in range(60)]
    figure = feature_lines(prediction, truth, feature_names=names, units=[""] * 60, dt_s=None)
    assert "24 of 60 features" in texts(figure)
    assert figure.axes[0].get_title(loc="left") == "f41"


def test_one_step_and_one_feature_are_enough():
    png(prediction_and_truth([[1.0]], [[2.0]], feature_names=["a"], dt_s=None))
    png(feature_lines([[1.0]], [[2.0]], feature_names=["a"], units=["m"], dt_s=None))
