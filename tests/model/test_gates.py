"""The written-out equations of an LSTM."""

import pytest
import torch
from torch import nn

from foretrace.model.gates import Gates, unroll


def gates(layer, x, state=None):
    """All steps together, each (B, T, H)."""
    return Gates(*(torch.stack(steps, dim=1) for steps in zip(*unroll(layer, x, state), strict=True)))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("carried", [False, True])
def test_the_equations_are_those_of_torch(dtype, most, carried):
    layer = nn.LSTM(17, 128, batch_first=True, dtype=dtype)
    x = 3 * torch.randn(4, 50, 17, dtype=dtype)
    state = (torch.rand(1, 4, 128, dtype=dtype), torch.randn(1, 4, 128, dtype=dtype)) if carried else None
    inside, (h, (_, c)) = gates(layer, x, state), layer(x, state)
    torch.testing.assert_close(inside.h, h, rtol=0, atol=most)
    torch.testing.assert_close(inside.c[:, -1], c[0], rtol=0, atol=most)


def test_gradients_of_the_weights_are_those_of_torch():
    layer = nn.LSTM(3, 5, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    ours, theirs = (
        torch.autograd.grad(h.square().sum(), list(layer.parameters()))
        for h in (gates(layer, x).h, layer(x)[0])
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "other", [{"num_layers": 2}, {"bidirectional": True}, {"proj_size": 2}, {"bias": False}]
)
def test_another_kind_of_lstm_is_refused(other):
    with pytest.raises(ValueError, match="one layer in one direction"):
        gates(nn.LSTM(3, 5, batch_first=True, **other), torch.zeros(1, 2, 3))
