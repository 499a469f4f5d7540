"""The network."""

import pytest
import torch

from foretrace.model.lstm import StackedLSTM
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.model.scaling import Standardizer

NO_KNOWN = {"covariate_mean": torch.zeros(0), "covariate_std": torch.zeros(0)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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
    values, covariates = torch.randn(1, 6, 2), torch.zeros(1, 6, 0)
    statistics = {"mean": torch.tensor([1.0, 2.0]), "std": torch.tensor([3.0, 4.0]), "change": torch.ones(2)}
    model = NextStepModel(hidden_sizes=[4], num_features=2, output="change")
    model.set_statistics(**statistics, **NO_KNOWN)
    metres = model(values, covariates)[0]
    model.set_statistics(**{name: 1000 * value for name, value in statistics.items()}, **NO_KNOWN)
    torch.testing.assert_close(model(1000 * values, covariates)[0], 1000 * metres, rtol=1e-5, atol=1e-3)


def test_a_feature_that_never_varies_is_forecast_at_its_value():
    model = NextStepModel(hidden_sizes=[4], num_features=1, output="change")
    model.set_statistics(mean=torch.tensor([7.0]), std=torch.zeros(1), change=torch.zeros(1), **NO_KNOWN)
    assert model(torch.full((1, 3, 1), 7.0), torch.zeros(1, 3, 0))[0].tolist() == [[[7.0], [7.0], [7.0]]]


def test_scaling_refuses_statistics_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        Standardizer(torch.tensor([float("nan")]), torch.ones(1))


def test_clipping_is_on_what_the_network_reads_and_not_on_the_present_value():
    model = NextStepModel(hidden_sizes=[4], num_features=2, output="change", input_clip=2.0)
    far, at_the_edge = torch.tensor([[[9.0, -9.0]]]), torch.tensor([[[2.0, -2.0]]])
    covariates = torch.zeros(1, 1, 0)
    torch.testing.assert_close(
        model(far, covariates)[0] - far, model(at_the_edge, covariates)[0] - at_the_edge
    )
