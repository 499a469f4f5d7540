"""The network, and the laws of recurrent networks that it must obey."""

import pytest
import torch
from torch.nn import functional as F

from foretrace.model.lstm import StackedLSTM
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.model.scaling import Standardizer

NO_KNOWN = {"known_mean": torch.zeros(0), "known_std": torch.zeros(0)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def gates(layer: torch.nn.LSTM, x: torch.Tensor, h: torch.Tensor) -> list[torch.Tensor]:
    """Input, forget, candidate and output gate of one step, from the weights."""
    z = x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
    i, f, g, o = z.chunk(4, dim=-1)
    return [i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()]


def one_step(layer: torch.nn.LSTM, x, h, c):
    _, (h1, c1) = layer(x[:, None], (h[None], c[None]))
    return h1[0], c1[0]


def test_state_carried_over_a_cut_gives_what_the_whole_sequence_gives():
    network, x = StackedLSTM(3, [5, 4], 3), torch.randn(2, 9, 3)
    whole, _ = network(x)
    early, state = network(x[:, :4])
    late, _ = network(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([early, late], dim=1), whole)


def test_every_layer_learns():
    network = StackedLSTM(3, [5, 4], 3)
    network(torch.randn(2, 9, 3))[0].square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_freezing_all_but_the_first_layer_and_the_head_leaves_83985_parameters():
    model = NextStepModel(hidden_sizes=[128, 256, 512], num_features=17)
    assert sum(trainable for trainable, _ in count_parameters(model).values()) == 2_056_209
    model.freeze(["lstm.1", "lstm.2"])
    assert sum(trainable for trainable, _ in count_parameters(model).values()) == 83_985


@pytest.mark.parametrize("output", ["change", "linear"])
def test_a_network_that_says_nothing_repeats_the_last_value(output):
    model = NextStepModel(hidden_sizes=[4], num_features=2, output=output)
    model.set_statistics(**{name: torch.rand(2) + 1 for name in ("mean", "std", "change")}, **NO_KNOWN)
    torch.nn.init.zeros_(model.stack.head.weight)
    torch.nn.init.zeros_(model.stack.head.bias)
    values = torch.randn(1, 6, 2)
    torch.testing.assert_close(model(values, torch.zeros(1, 6, 0))[0], values)


def test_a_forecast_does_not_depend_on_the_units():
    """Metres or millimetres: the same forecast, in metres or millimetres."""
    values, known = torch.randn(1, 6, 2), torch.zeros(1, 6, 0)
    statistics = {"mean": torch.tensor([1.0, 2.0]), "std": torch.tensor([3.0, 4.0]), "change": torch.ones(2)}
    model = NextStepModel(hidden_sizes=[4], num_features=2, output="change")
    model.set_statistics(**statistics, **NO_KNOWN)
    metres = model(values, known)[0]
    model.set_statistics(**{name: 1000 * value for name, value in statistics.items()}, **NO_KNOWN)
    torch.testing.assert_close(model(1000 * values, known)[0], 1000 * metres, rtol=1e-5, atol=1e-3)


def test_a_feature_that_never_varies_is_forecast_at_its_value():
    model = NextStepModel(hidden_sizes=[4], num_features=1, output="change")
    model.set_statistics(mean=torch.tensor([7.0]), std=torch.zeros(1), change=torch.zeros(1), **NO_KNOWN)
    assert model(torch.full((1, 3, 1), 7.0), torch.zeros(1, 3, 0))[0].tolist() == [[[7.0], [7.0], [7.0]]]


def test_scaling_refuses_statistics_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        Standardizer(torch.tensor([float("nan")]), torch.ones(1))


def test_recurrent_gradient_is_the_next_ones_times_slope_times_weights():
    """Question 2a: for h' = σ(z), z = h Wᵀ + …, ∂L/∂h = (∂L/∂h' ⊙ σ'(z)) W, shapes 64 and 64 × 64."""
    h, weights = torch.randn(32, 64, requires_grad=True), torch.randn(64, 64)
    z = h @ weights.T
    after = z.sigmoid()
    after.retain_grad()
    after.square().sum().backward()
    slope = after.detach() * (1 - after.detach())
    torch.testing.assert_close(h.grad, (after.grad * slope) @ weights)


@pytest.mark.parametrize(("weight", "least", "most"), [(3.0, 0, 0.01), (4.0, 1, 1), (5.0, 50, 100)])
def test_a_recurrent_weight_of_four_parts_vanishing_from_exploding(weight, least, most):
    """Question 2b: σ'(0) = 1/4, so a step back multiplies the gradient by weight / 4 where z = 0."""
    h = first = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    for _ in range(20):
        h = torch.sigmoid(weight * (h - 0.5))  # 0.5 is the fixed point, with z = 0
    h.backward()
    assert float(first.grad) == pytest.approx((weight / 4) ** 20)
    assert least <= float(first.grad) <= most


def test_an_lstm_without_input_still_changes_its_state():
    """Question 3a: h_t ≠ h_{t-1} although x_t = 0."""
    layer = StackedLSTM(3, [5], 3).lstm[0]
    h, c = torch.randn(1, 5), torch.randn(1, 5)
    h1, c1 = one_step(layer, torch.zeros(1, 3), h, c)
    assert not torch.allclose(h1, h)
    assert not torch.allclose(c1, c)


def test_the_cell_hands_gradients_back_through_the_forget_gate():
    """Question 3b: ∂c_t/∂c_{t-1} = f_t along the cell."""
    layer = StackedLSTM(3, [5], 3).lstm[0]
    x, h, c = torch.randn(1, 3), torch.randn(1, 5), torch.randn(1, 5, requires_grad=True)
    slopes = torch.autograd.functional.jacobian(lambda cell: one_step(layer, x, h, cell)[1][0], c)[:, 0]
    torch.testing.assert_close(slopes, torch.diag(gates(layer, x, h)[1][0]))


def test_gates_lie_between_0_and_1_and_need_not_sum_to_1():
    """Questions 3c, 3d; and the gates written out are those of `torch.nn.LSTM`."""
    layer = StackedLSTM(3, [5], 3).lstm[0]
    x, h, c = 3 * torch.randn(8, 3), torch.randn(8, 5), torch.randn(8, 5)
    i, f, g, o = gates(layer, x, h)
    assert all(((gate > 0) & (gate < 1)).all() for gate in (i, f, o))
    assert ((i + f + o - 1).abs() > 0.1).any()
    after = f * c + i * g
    torch.testing.assert_close(one_step(layer, x, h, c), (o * after.tanh(), after))


def test_the_loss_of_the_scalar_lstm_is_the_mean_where_the_report_gives_the_sum():
    """Question 4: h = (0.2174, -0.18988) against (0.5, 0.8)."""
    layer = StackedLSTM(1, [1], 1).lstm[0]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0[2] = 1  # candidate = tanh(x)
        layer.bias_ih_l0.copy_(torch.tensor([30.0, -30.0, 0.0, 30.0]))  # i = o = 1, f = 0
    inputs = torch.tensor([0.2174, -0.18988]).atanh().atanh().reshape(1, 2, 1)
    h = layer(inputs)[0].detach()
    torch.testing.assert_close(h.flatten(), torch.tensor([0.2174, -0.18988]))
    target = torch.tensor([0.5, 0.8]).reshape(1, 2, 1)
    assert float(F.mse_loss(h, target, reduction="sum")) == pytest.approx(1.0597, abs=5e-5)
    assert float(F.mse_loss(h, target)) == pytest.approx(0.5299, abs=5e-5)


def test_clipping_is_on_what_the_network_reads_and_not_on_the_present_value():
    model = NextStepModel(hidden_sizes=[4], num_features=2, output="change", input_clip=2.0)
    far, at_the_edge = torch.tensor([[[9.0, -9.0]]]), torch.tensor([[[2.0, -2.0]]])
    known = torch.zeros(1, 1, 0)
    torch.testing.assert_close(model(far, known)[0] - far, model(at_the_edge, known)[0] - at_the_edge)
