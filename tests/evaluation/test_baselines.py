import numpy as np
import pytest
import torch

from foretrace.data.sequences import Sequences
from foretrace.evaluation.baselines import find_season, fit_baselines, fit_ridge, naive_error
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import Groups
from foretrace.evaluation.one_step import evaluate_carried_state
from foretrace.evaluation.open_loop import evaluate_open_loop
from foretrace.evaluation.references import References

A = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.0, 0.0, 0.7]])
NOISE = np.array([0.1, 0.05, 0.2])


def linear_system(episodes, steps, *, noise=NOISE, seed=0, input_gain=0.0):
    """x_{t+1} = A x_t + gain u_t + noise, from its stationary distribution or nearly so."""
    generator = np.random.default_rng(seed)
    x, u = np.zeros((episodes, 3)), generator.normal(size=(100 + steps, episodes, 1))
    rows = []
    for now in u:
        rows.append(x)
        x = x @ A.T + input_gain * now + noise * generator.normal(size=x.shape)
    values = np.stack(rows[100:], axis=1)
    covariates = list(u[100:].transpose(1, 0, 2)) if input_gain else None
    names = ["u"] if input_gain else []
    return Sequences.from_episodes(
        list(values), feature_names=list("xyz"), covariates=covariates, covariate_names=names
    )


def open_loop(model, baselines, sequences, *, horizon):
    references, groups = References(baselines=baselines, calibration=None), Groups.of(sequences, stretch=8)
    return evaluate_open_loop(model, references, sequences, groups, warmup=8, horizon=horizon)


def test_ridge_reaches_the_noise_floor_one_step_and_at_each_horizon(untrained):
    train, valid, test = (linear_system(n, 1000, seed=n) for n in (100, 20, 600))
    model = untrained(train)
    baselines = fit_baselines(train, valid, scalings=Scalings.of(model), longest=8)
    scale = model.scaling.scale.double().numpy()
    powers = [np.linalg.matrix_power(A, k) for k in range(20)]
    added = [np.diag(power @ np.diag(NOISE**2) @ power.T) / scale**2 for power in powers]
    floor = np.cumsum(added, axis=0)  # (H, F): what noise after the start alone does

    loop = open_loop(model, baselines, test, horizon=20)
    np.testing.assert_allclose(loop.errors["ridge"].mean_mse, floor.mean(axis=1), rtol=0.02)
    np.testing.assert_allclose(loop.errors["ridge"].mse, floor, rtol=0.03)
    carried = evaluate_carried_state(model, baselines, test, Groups.of(test, stretch=8), warmup=8)
    np.testing.assert_allclose(carried.errors["ridge"].mse, floor[0], rtol=0.02)


def test_ridge_uses_known_inputs_and_finds_an_exact_system(untrained):
    train, valid = (linear_system(10, 200, noise=0, seed=s, input_gain=0.5) for s in (1, 2))
    model = untrained(train)
    baselines = fit_baselines(train, valid, scalings=Scalings.of(model), longest=8)
    loop = open_loop(model, baselines, valid, horizon=30)
    assert loop.errors["ridge"].mean_mse.max() < 1e-9
    assert loop.valid["ridge"][:, -1].sum() == loop.num_starts


def test_ridge_is_what_least_squares_over_the_rows_of_each_episode_gives(untrained):
    """Written out for two steps: no row pair reaches across the border of an episode."""
    train = linear_system(7, 50)
    scalings = Scalings.of(untrained(train))
    x = (train.values.astype(np.float64) - scalings.values.mean.numpy()) / scalings.values.scale.numpy()
    episodes = [x[first:end] for first, end in train.bounds]
    inputs = np.concatenate([np.hstack([e[:-2], e[1:-1], np.ones((len(e) - 2, 1))]) for e in episodes])
    weights = np.linalg.lstsq(inputs, np.concatenate([e[2:] for e in episodes]), rcond=None)[0]
    valid = train  # on its own training rows, the longest history and the weakest penalty fit best
    ridge = fit_ridge(train, valid, scalings=scalings, longest=2)
    assert ridge.chosen == "last 2 steps, strength 1e-08"
    np.testing.assert_allclose(ridge.weights.flatten(0, 1).numpy(), weights[:-1], atol=1e-4)
    np.testing.assert_allclose(ridge.bias.numpy(), weights[-1], atol=1e-4)


def test_the_simple_baselines_are_what_they_are_called(untrained, waves):
    scalings = Scalings.of(untrained(waves))
    persistence, velocity, mean, _ = fit_baselines(waves, waves, scalings=scalings, longest=5)
    x = scalings.values(torch.from_numpy(waves.episode(0)))[None]
    assert torch.equal(persistence.steps(x), x.double())
    expected = 2 * x[:, 1:].double() - x[:, :-1]
    torch.testing.assert_close(velocity.steps(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean.steps(x), torch.zeros_like(x).double(), rtol=0, atol=1e-6)


def test_baselines_read_no_more_than_they_may(untrained, waves):
    scalings = Scalings.of(untrained(waves))
    assert all(b.context <= 4 for b in fit_baselines(waves, waves, scalings=scalings, longest=4))


def test_a_season_is_found_and_repeated(untrained):
    t = np.arange(600)
    day = np.sin(2 * np.pi * t / 24)[:, None] + 0.1 * np.random.default_rng(0).normal(size=(600, 1))
    train = Sequences.from_episodes([day[:400], day[400:]], feature_names=["load"])
    scalings = Scalings.of(untrained(train))
    found = {b.name: b for b in fit_baselines(train, train, scalings=scalings, longest=50)}
    assert found["seasonal"].context == 24
    assert found["seasonal"].chosen == "24 steps, from the autocorrelation of the training part"
    x = scalings.values(torch.from_numpy(train.values[None, :60]))
    torch.testing.assert_close(found["seasonal"].steps(x.double())[0, 0], x[0, 0].double())
    given = {b.name: b for b in fit_baselines(train, train, scalings=scalings, longest=50, season=12)}
    assert given["seasonal"].context == 12


@pytest.mark.parametrize("kind", ["walk", "noise"])
def test_no_season_is_found_where_there_is_none(kind):
    noise = np.random.default_rng(0).normal(size=(500, 2))
    train = Sequences.from_episodes(
        [noise.cumsum(axis=0) if kind == "walk" else noise], feature_names=["x", "y"]
    )
    assert find_season(train, longest=50) is None


def test_a_naive_forecast_has_a_scaled_error_of_one_in_training(untrained):
    train = linear_system(5, 200)
    scalings = Scalings.of(untrained(train))
    steps = np.abs(np.diff(np.stack([train.episode(e) for e in range(5)]), axis=1)).mean(axis=(0, 1))
    found = naive_error(train, scalings=scalings, season=1)
    np.testing.assert_allclose(found, steps / scalings.values.scale.numpy(), rtol=1e-5)


def test_boosting_is_compared_one_step_and_the_farthest_ahead(untrained, evaluated):
    train = linear_system(20, 200)
    result = evaluated(untrained(train), train, warmup=10, horizon=6, boosting=True)
    assert list(result.boosting) == [1, 6]
    for steps, errors in result.boosting.items():
        floor, mean = (result.open_loop.errors[name].at(steps) for name in ("ridge", "mean"))
        assert errors.mean_mse < 0.9 * mean.mean_mse
        np.testing.assert_array_equal(errors.count, floor.count)
    assert {c.where for c in result.verdicts if c.names[1] == "boosting"} == {"open_loop/1", "open_loop/6"}
