"""The loss that is minimized, and the one that is reported."""

import pytest
import torch

from foretrace.data.windows import Windows
from foretrace.training.module import TRAIN_LOSS, Forecaster


@pytest.fixture
def make(waves):
    def made(**loss):
        torch.manual_seed(0)
        forecaster = Forecaster(
            features={
                "names": ["left", "right"],
                "units": ["m", "rad"],
                "covariates": [],
                "dt_s": 0.1,
                "digest": "",
            },
            model={"hidden_sizes": [6], "dropout": 0.0, "output": "change", "frozen": []},
            loss={"kind": "mse", "huber_delta": 1.0, "units": "scaled", "input_noise": 0.0, "open_loop": None}
            | loss,
            optimizer={"name": "Adam", "lr": 0.01},
        )
        forecaster.set_statistics(waves.statistics)
        return forecaster

    return made


@pytest.fixture
def batch(waves):
    return Windows(waves, length=12, stride=12).gather(torch.arange(8))


def test_the_loss_is_the_one_step_error_alone(make, batch):
    forecaster = make()
    out = forecaster.training_step(batch, 0)
    forecast, _ = forecaster.model(batch.values, batch.covariates)
    error = (forecast - batch.targets) / forecaster.model.scaling.scale
    torch.testing.assert_close(out["loss"], error.square().mean())
    torch.testing.assert_close(out["loss"].detach(), out[TRAIN_LOSS])


def test_a_loss_in_raw_units_weighs_features_as_the_raw_error_does(make, batch):
    forecaster = make(units="raw")
    forecaster.model.set_statistics(mean=torch.zeros(2), std=torch.tensor([1.0, 3.0]), change=torch.ones(2),
                                    covariate_mean=torch.zeros(0), covariate_std=torch.zeros(0))  # fmt: skip
    out = forecaster.training_step(batch, 0)
    forecast, _ = forecaster.model(batch.values, batch.covariates)
    raw = (forecast - batch.targets).square().mean()
    torch.testing.assert_close(out["loss"], raw / 5)  # the mean variance, (1 + 9) / 2


def test_the_open_loop_term_sees_nothing_of_the_last_steps(make, batch):
    forecaster = make(open_loop={"weight": 2.0, "horizon": 4, "growth_epochs": 1})
    out = forecaster.training_step(batch, 0)
    term = (out["loss"] - out[TRAIN_LOSS]) / 2
    hidden = batch._replace(values=batch.values.clone())
    hidden.values[:, 8:] += 1  # what was measured in the last four steps
    again = forecaster.training_step(hidden, 0)
    torch.testing.assert_close((again["loss"] - again[TRAIN_LOSS]) / 2, term)


def test_the_open_loop_term_is_the_error_of_forecasts_that_feed_on_themselves(make, batch):
    forecaster = make(open_loop={"weight": 1.0, "horizon": 4, "growth_epochs": 1})
    out = forecaster.training_step(batch, 0)
    seen = batch.values[:, :8]
    for _ in range(5):  # reads all again each time, where the loss carries the state
        forecast, _ = forecaster.model(seen, torch.zeros(*seen.shape[:2], 0))
        seen = torch.cat([seen, forecast[:, -1:]], dim=1)
    error = (seen[:, 9:] - batch.targets[:, 8:]) / forecaster.model.scaling.scale
    torch.testing.assert_close(out["loss"] - out[TRAIN_LOSS], error.square().mean())


def test_the_horizon_grows_from_one_step(make, batch):
    whole = make(open_loop={"weight": 1.0, "horizon": 4, "growth_epochs": 4}).training_step(batch, 0)
    one = make(open_loop={"weight": 1.0, "horizon": 1, "growth_epochs": 1}).training_step(batch, 0)
    torch.testing.assert_close(whole["loss"], one["loss"])


def test_noise_is_on_what_is_read_and_not_on_what_is_wanted(make, batch):
    quiet, noisy = make().training_step(batch, 0), make(input_noise=0.5).training_step(batch, 0)
    assert float(noisy[TRAIN_LOSS]) > float(quiet[TRAIN_LOSS])


def test_a_huber_loss_counts_large_errors_by_their_size(make, batch):
    small = make(kind="huber", huber_delta=1e-3).training_step(batch, 0)
    forecaster = make()
    forecast, _ = forecaster.model(batch.values, batch.covariates)
    error = (forecast - batch.targets) / forecaster.model.scaling.scale
    torch.testing.assert_close(small["loss"], 1e-3 * error.abs().mean(), rtol=0, atol=1e-6)
    torch.testing.assert_close(small[TRAIN_LOSS], error.square().mean().detach())


def test_a_gaussian_loss_leaves_the_forecast_as_it_is_under_mse_and_learns_the_size_of_its_errors(
    make, batch
):
    plain, gaussian = make(), make(kind="gaussian")
    for forecaster in (plain, gaussian):
        optimizer = torch.optim.Adam(forecaster.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            forecaster.training_step(batch, 0)["loss"].backward()
            optimizer.step()
    x, target = (gaussian.model.scaling(values) for values in (batch.values, batch.targets))
    theirs, _ = plain.model.forward_scaled(x, batch.covariates)
    forecast, spread, _ = gaussian.model.forward_spread(x, batch.covariates)
    torch.testing.assert_close(forecast, theirs, rtol=0, atol=1e-3)
    rms = (forecast - target).square().mean(dim=(0, 1)).sqrt()
    torch.testing.assert_close(spread.mean(dim=(0, 1)), rms, rtol=0.3, atol=0)
