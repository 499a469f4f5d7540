from io import BytesIO

import numpy as np
import pytest
from matplotlib.text import Text

from foretrace.reports.figures.learning import (
    error_by_epoch,
    gate_pictures,
    gradient_flow,
    layer_norms,
    loss_by_batch,
)


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


def gates(num_units: int = 6, num_steps: int = 20) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {gate: generator.uniform(size=(num_steps, num_units)) for gate in "ifo"}
    return found | {"g": generator.uniform(-1, 1, size=(num_steps, num_units)), "c": np.zeros(1)}


def test_units_are_in_the_order_of_their_mean_forget_gate_in_all_four_images():
    arrays = gates()
    figure = gate_pictures({"lstm.0": arrays}, dt_s=None)
    order = np.argsort(arrays["f"].mean(axis=0))
    for axes, gate in zip(figure.axes, "ifog", strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), arrays[gate][:, order].T)


def test_each_image_says_how_much_of_it_is_saturated():
    arrays = gates() | {"f": np.repeat([[0.95, 0.95, 0.5, 0.05]], 20, axis=0)}
    arrays |= {gate: np.full((20, 4), 0.5) for gate in "iog"}
    figure = gate_pictures({"lstm.0": arrays}, dt_s=0.01)
    texts = [axes.texts[0].get_text() for axes in figure.axes[:4]]
    assert texts == ["open 0%, shut 0%", "open 50%, shut 25%", "open 0%, shut 0%", "saturated 0%"]


@pytest.mark.parametrize("layers", [1, 5])
def test_layers_of_any_number_and_width_can_be_drawn(layers, tmp_path):
    arrays = {f"lstm.{depth}": gates(num_units=4**depth) for depth in range(layers)}
    arrays["lstm.0"]["f"][3] = np.nan
    gate_pictures(arrays, dt_s=0.01, title="$5").savefig(tmp_path / "gates.png")


def test_gradients_start_at_one_and_run_back_from_the_loss(tmp_path):
    norms = 3 * 0.5 ** np.arange(30.0)[None, ::-1].repeat(2, axis=0)
    norms[1] = 0
    figure = gradient_flow(norms, norms, layers=["lstm.0", "lstm.1"])
    line, nothing = figure.axes[0].lines[:2]
    np.testing.assert_allclose(line.get_ydata()[:4], [1, 0.5, 0.25, 0.125])
    assert np.isnan(nothing.get_ydata()).all()
    figure.savefig(tmp_path / "flow.png")


def test_only_a_layer_without_any_update_is_said_never_to_have_moved(tmp_path):
    norms, updates = {"a": [1, 2], "b": [3, 3]}, {"a": [0, 0.1], "b": [0, 0]}
    figure = layer_norms([0, 1], norms=norms, updates=updates)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b (never moved)"]
    figure.savefig(tmp_path / "norms.png")
