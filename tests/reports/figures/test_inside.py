"""Pictures of gates, gradients and weights say what the arrays say."""

import numpy as np
import pytest

from foretrace.reports.figures import inside


def gates(num_units: int = 6, num_steps: int = 20) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {gate: generator.uniform(size=(num_steps, num_units)) for gate in "ifo"}
    return found | {"g": generator.uniform(-1, 1, size=(num_steps, num_units)), "c": np.zeros(1)}


def test_units_are_in_the_order_of_their_mean_forget_gate_in_all_four_images():
    arrays = gates()
    figure = inside.gate_pictures({"lstm.0": arrays}, dt_s=None)
    order = np.argsort(arrays["f"].mean(axis=0))
    for axes, gate in zip(figure.axes, "ifog", strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), arrays[gate][:, order].T)


def test_each_image_says_how_much_of_it_is_saturated():
    arrays = gates() | {"f": np.repeat([[0.95, 0.95, 0.5, 0.05]], 20, axis=0)}
    arrays |= {gate: np.full((20, 4), 0.5) for gate in "iog"}
    figure = inside.gate_pictures({"lstm.0": arrays}, dt_s=0.01)
    texts = [axes.texts[0].get_text() for axes in figure.axes[:4]]
    assert texts == ["open 0%, shut 0%", "open 50%, shut 25%", "open 0%, shut 0%", "saturated 0%"]


@pytest.mark.parametrize("layers", [1, 5])
def test_layers_of_any_number_and_width_can_be_drawn(layers, tmp_path):
    arrays = {f"lstm.{depth}": gates(num_units=4**depth) for depth in range(layers)}
    arrays["lstm.0"]["f"][3] = np.nan
    inside.gate_pictures(arrays, dt_s=0.01, title="$5").savefig(tmp_path / "gates.png")


def test_gradients_start_at_one_and_run_back_from_the_loss(tmp_path):
    norms = 3 * 0.5 ** np.arange(30.0)[None, ::-1].repeat(2, axis=0)
    norms[1] = 0
    figure = inside.gradient_flow(norms, norms, layers=["lstm.0", "lstm.1"])
    line, nothing = figure.axes[0].lines[:2]
    np.testing.assert_allclose(line.get_ydata()[:4], [1, 0.5, 0.25, 0.125])
    assert np.isnan(nothing.get_ydata()).all()
    figure.savefig(tmp_path / "flow.png")


def test_only_a_layer_without_any_update_is_said_never_to_have_moved(tmp_path):
    norms, updates = {"a": [1, 2], "b": [3, 3]}, {"a": [0, 0.1], "b": [0, 0]}
    figure = inside.layer_norms([0, 1], norms=norms, updates=updates)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b (never moved)"]
    figure.savefig(tmp_path / "norms.png")
