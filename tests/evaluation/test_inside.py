"""What gates do over an episode, and how far a gradient comes back."""

import numpy as np
import pytest
import torch
from torch import nn

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Batch
from foretrace.evaluation.inside import (
    GradientFlow,
    describe_gates,
    episode_gates,
    gradient_flow,
    memory_steps,
)
from foretrace.model.next_step import NextStepModel


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small_model(**settings) -> NextStepModel:
    model = NextStepModel(**({"hidden_sizes": [5, 4], "num_features": 3, "num_covariates": 2} | settings))
    covariates = {"covariate_mean": torch.rand(model.covariate_scaling.mean.numel())}
    model.set_statistics(
        mean=torch.rand(3),
        std=torch.rand(3) + 1,
        change=torch.rand(3),
        covariate_std=covariates["covariate_mean"] + 1,
        **covariates,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def small_batch(steps: int = 9) -> Batch:
    return Batch(torch.randn(6, steps, 3), torch.randn(6, steps, 2), torch.randn(6, steps, 3))


def test_memory_length_follows_from_the_forget_gate_s_bias():
    """f = σ(b) at all times: a unit forgets c to a share 1/e in −1/ln f steps."""
    model = small_model(hidden_sizes=[2], num_covariates=0)
    with torch.no_grad():
        layer = model.stack.lstm[0]
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[2:4] = torch.tensor([0.9, 0.99]).logit()
    sequences = Sequences.from_episodes(
        [np.random.default_rng(0).normal(size=(30, 3))], feature_names=list("abc")
    )
    [inside] = episode_gates(model, sequences, 0).values()
    np.testing.assert_allclose(memory_steps(inside["f"]), [-1 / np.log(0.9), -1 / np.log(0.99)], rtol=1e-4)
    assert describe_gates("lstm.0", inside)[1]["gates/lstm.0/forget open"] == 0.5


def test_a_forget_gate_that_never_forgets_has_no_finite_memory():
    f = np.stack([np.ones(5), np.full(5, 0.5), np.zeros(5)], axis=1)
    np.testing.assert_allclose(memory_steps(f), [np.inf, 1 / np.log(2), 0.0])
    line, _ = describe_gates("lstm.0", dict.fromkeys("ifog", f))
    assert "remembers 1.44 steps (a tenth of the units under 0, a tenth over inf)" in line


def test_an_episode_s_gates_are_read_beside_its_known_inputs():
    model = small_model()
    rows = np.random.default_rng(0).normal(size=(2, 12, 5)).astype(np.float32)
    sequences = Sequences.from_episodes(
        list(rows[..., :3]),
        feature_names=list("abc"),
        covariates=list(rows[..., 3:]),
        covariate_names=["d", "e"],
    )
    inside = episode_gates(model, sequences, 1, max_steps=7)
    _, state = model(*(torch.from_numpy(rows[1:2, :7, part]) for part in (slice(3), slice(3, 5))))
    for (h, c), layer in zip(state, inside.values(), strict=True):
        np.testing.assert_allclose(
            [layer["h"][-1], layer["c"][-1]], torch.stack([h, c])[:, 0, 0].detach(), atol=1e-6
        )


@pytest.mark.parametrize("bias", [-1.0, 0.0, 2.0])
def test_without_recurrent_weights_the_cell_s_gradient_decays_as_the_forget_gate_does(bias):
    """Question 3b: ∂c_t/∂c_{t−1} = f exactly, so k steps back f^k is left."""
    model = small_model(hidden_sizes=[1])
    layer = model.stack.lstm[0]
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_ih_l0[1] = 0
        layer.bias_ih_l0[1], layer.bias_hh_l0[1] = bias, 0
    flow = gradient_flow(model, small_batch(steps=30))
    f = 1 / (1 + np.exp(-bias))
    np.testing.assert_allclose(flow.c[0] / flow.c[0, -1], f ** np.arange(30.0)[::-1], rtol=1e-4)
    assert flow.h[0, -1] > 0
    assert not flow.h[0, :-1].any()


@pytest.mark.parametrize("output", ["value", "change", "linear"])
def test_gradients_are_those_of_the_model_s_own_loss(output):
    """In the top layer, the output of step 3 is read by step 4 alone: the model, cut there, gives its gradient."""
    model = small_model(output=output).double()
    batch = Batch(*(part[:1].double() for part in small_batch()[:3]))
    x, target = model.scaling(batch.values), model.scaling(batch.targets)
    _, (below, (h, c)) = model.forward_scaled(x[:, :4], batch.covariates[:, :4])
    forecast, _ = model.forward_scaled(x[:, 4:], batch.covariates[:, 4:], (below, (h, c)))
    slope_h, slope_c = torch.autograd.grad((forecast[:, -1] - target[:, -1]).square().mean(), (h, c))
    flow = gradient_flow(model, batch)
    assert flow.h[1, 3] == pytest.approx(float(slope_h.norm()))
    slope_through_h = slope_h * (h / c.tanh() * (1 - c.tanh().square())).detach()  # h = o tanh(c)
    assert flow.c[1, 3] == pytest.approx(float((slope_c + slope_through_h).norm()))


def test_frozen_layers_and_dropout_change_nothing():
    model, batch = small_model(), small_batch()
    free = gradient_flow(model, batch)
    model.freeze(["lstm.0", "lstm.1", "head"])
    model.stack.dropout.p = 0.9
    frozen = gradient_flow(model.train(), batch)
    np.testing.assert_array_equal(free.h, frozen.h)
    assert model.training


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (0.5, "halves every 1 steps; a hundredth is left after 7 (vanishes)"),
        (0.95, "halves every 14 steps; 8% is left after 49 (fades)"),
        (1.0, "is steady: 1 of it after 49 steps"),
        (1.3, "grows 1.3-fold a step; 3.83e+05-fold after 49 (explodes)"),
        (0.0, "is zero: nothing comes back from the loss"),
        (np.nan, "is not finite"),
    ],
)
def test_a_gradient_is_described_in_words(left, said):
    norms = np.zeros((1, 50)) if left == 0 else np.float64(left) ** np.arange(50)[None, ::-1]
    norms = np.full((1, 50), np.nan) if np.isnan(left) else norms
    assert GradientFlow(("lstm.0",), h=norms, c=norms).diagnosis() == [f"lstm.0: gradient {said}"]
