from io import BytesIO

import numpy as np
import pytest
from matplotlib.text import Text

from foretrace.reports.figures.learning import error_by_epoch, loss_by_batch


def png(figure):
    figure.savefig(file := BytesIO(), format="png")
    return file.getvalue()


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_best_epoch_and_learning_rate_are_shown():
    epochs = np.arange(50)
    errors = 1 / (epochs + 1.0)
    figure = error_by_epoch(epochs, train=errors, valid=errors, lr=0.9**epochs, best_epoch=49)
    assert "best validation: 0.02 in epoch 49" in texts(figure)
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), 0.9**epochs)


def test_one_epoch_and_unknown_errors_can_be_drawn():
    png(error_by_epoch([0], train=[0.3], valid=[np.nan], lr=[1e-3], best_epoch=0))
    unknown = error_by_epoch([1, 2], train=[np.nan] * 2, valid=[np.nan] * 2, lr=[np.nan] * 2, best_epoch=None)
    assert "no finite values" in texts(unknown)
    png(unknown)


@pytest.mark.parametrize("count", [1, 500, 300_000])
def test_any_number_of_batches_makes_a_small_picture(count):
    losses = np.exp(-np.arange(count) / count) + 0.01 * np.random.default_rng(0).random(count)
    assert len(png(loss_by_batch(np.arange(count), losses))) < 300_000


def test_losses_that_are_not_finite_are_shown():
    figure = loss_by_batch(np.arange(5), [1, 2, np.nan, np.inf, 3])
    assert "not finite: 2, the first at 2" in texts(figure)
    png(figure)
