"""CUDA graphs compute what kernels launched one by one do."""

import pytest
import torch

from foretrace.model.next_step import NextStepModel
from foretrace.training.cuda_graphs import Graphed
from foretrace.training.module import TrainingForecasts


@pytest.fixture
def network():
    torch.manual_seed(1)
    return NextStepModel(hidden_sizes=[8, 8], num_features=3, output="change", spread=True)


def test_forecasts_of_a_window_are_the_same_whether_its_end_is_also_rolled_out(network):
    x, none = torch.randn(2, 9, 3), torch.zeros(2, 9, 0)
    plain, rolled = (TrainingForecasts(network, horizon)(x, none) for horizon in (0, 4))
    for name in ("forecast", "spread"):
        torch.testing.assert_close(plain[name], rolled[name])
    assert rolled["rollout"].shape == (2, 4, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("horizon", [0, 4])
def test_graphs_give_the_same_bits_for_each_shape_of_batch(network, horizon):
    network.cuda().train()
    eager = TrainingForecasts(network, horizon)
    graphed = Graphed(eager)
    for windows in (6, 2, 6):
        x, none = torch.randn(windows, 9, 3, device="cuda"), torch.zeros(windows, 9, 0, device="cuda")
        gradients = []
        for found in (eager(x, none), graphed(x, none)):
            network.zero_grad()
            sum(value.square().sum() for value in found.values()).backward()
            gradients.append([parameter.grad.clone() for parameter in network.parameters()])
        assert all(map(torch.equal, *gradients))
