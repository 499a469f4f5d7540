"""The laws behind the report's worked questions, on the code that trains: docs/course_report.md reads them."""

import math

import pytest
import torch
from torch.nn import functional as F

from foretrace.model.lstm import StackedLSTM
from foretrace.training.optimizers import build_optimizer


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


def test_adam_keeps_moving_averages_of_gradients_and_of_their_squares():
    """Question 1: V and S of a 2 × 3 weight after two steps, from Adam's own recurrences (Kingma and Ba, 2015)."""
    weight = torch.nn.Parameter(torch.randn(2, 3))
    optimizer = build_optimizer([weight], name="Adam", lr=0.1, betas=[0.9, 0.999], eps=1e-8)
    v, s, w = torch.zeros(2, 3), torch.zeros(2, 3), weight.detach().clone()
    for t in (1, 2):
        gradient = torch.randn(2, 3)
        v, s = 0.9 * v + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
        w = w - 0.1 * (v / (1 - 0.9**t)) / ((s / (1 - 0.999**t)).sqrt() + 1e-8)
        weight.grad = gradient
        optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["exp_avg"], v)
    torch.testing.assert_close(optimizer.state[weight]["exp_avg_sq"], s)
    torch.testing.assert_close(weight.detach(), w)


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


def test_along_the_cell_a_gradient_is_the_product_of_the_forget_gates():
    """Question 3b: ∂c_t/∂c_{t-1} = f_t, where h is held; over three steps, f₁ f₂ f₃."""
    layer = StackedLSTM(3, [5], 3).lstm[0]
    h, c = torch.randn(1, 5), torch.randn(1, 5, requires_grad=True)
    cell, product = c, torch.ones(5)
    for x in torch.randn(3, 1, 3):
        product = product * gates(layer, x, h)[1][0].detach()
        h, cell = one_step(layer, x, h, cell)
        h = h.detach()
    slopes = torch.stack([torch.autograd.grad(one, c, retain_graph=True)[0][0] for one in cell[0]])
    torch.testing.assert_close(slopes, torch.diag(product))


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


def test_the_report_s_two_test_figures_cannot_both_be_means():
    """A mean of |e| never exceeds the root of the mean of e²; the mean length of 17-vectors may, up to √17 times."""
    mse, l1 = 0.00028252945048734546, 0.06915978819597512
    assert l1 > math.sqrt(mse)
    assert math.sqrt(17 * mse) == pytest.approx(l1, rel=3e-3)
