import numpy as np
import pytest
import torch

from foretrace.data.statistics import Statistics
from foretrace.data.windows import WindowLoader, Windows
from foretrace.evaluation.one_step import Errors, evaluate_one_step, forecast_episode
from foretrace.model.next_step import NextStepModel


@pytest.fixture
def model(waves):
    torch.manual_seed(0)
    model = NextStepModel(hidden_sizes=[6], num_features=2, output="change")
    model.set_statistics(
        **{name: torch.from_numpy(array) for name, array in vars(Statistics.of(waves)).items()}
    )
    return model


def evaluate(model, sequences, batch_size):
    windows = Windows(sequences, length=10, stride=7)
    return evaluate_one_step(
        model, WindowLoader(windows, batch_size=batch_size), feature_names=("left", "right")
    )


def test_errors_are_means_over_all_elements_whatever_the_batches(model, waves):
    """The last batch is smaller than the others: a mean of batch means would differ."""
    one, many = evaluate(model, waves, 1000).metrics(), evaluate(model, waves, 3).metrics()
    assert one == pytest.approx(many, rel=1e-5)
    batch = Windows(waves, length=10, stride=7).gather(torch.arange(len(Windows(waves, length=10, stride=7))))
    with torch.no_grad():
        error = model(batch.values, batch.covariates)[0] - batch.targets
    assert one["test/raw/mse"] == pytest.approx(float(error.square().mean()), rel=1e-5)
    assert one["test/raw/l1"] == pytest.approx(float(error.abs().mean()), rel=1e-5)


def test_the_persistence_forecast_has_a_skill_of_exactly_0(model, waves):
    torch.nn.init.zeros_(model.stack.head.weight)
    torch.nn.init.zeros_(model.stack.head.bias)
    assert evaluate(model, waves, 8).skill == 0


def test_figures_that_no_errors_can_have_are_refused():
    """The report's: mean |e| = 0.0692 cannot go with mean e² = 0.000283."""
    with pytest.raises(ValueError, match="no errors have"):
        Errors(np.array([0.00028252945048734546]), np.array([0.06915978819597512]))


def test_a_pictured_forecast_stands_beside_what_it_forecasts(model, waves):
    prediction, truth = forecast_episode(model, waves, 3, max_steps=25)
    assert prediction.shape == truth.shape == (25, 2)
    np.testing.assert_array_equal(truth, waves.episode(3)[1:26])
