import numpy as np
import pytest
import torch

from foretrace.data.sequences import Sequences
from foretrace.data.statistics import Statistics
from foretrace.data.windows import Windows
from foretrace.evaluation import chunks
from foretrace.evaluation.baselines import fit_baselines
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.initial_state import evaluate_carried_state, evaluate_zero_state
from foretrace.evaluation.ridge import fit_ridge
from foretrace.evaluation.rollout import evaluate_open_loop
from foretrace.model.next_step import NextStepModel

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


def untrained(train, **options):
    torch.manual_seed(0)
    model = NextStepModel(
        hidden_sizes=[3],
        num_features=train.values.shape[1],
        num_covariates=train.covariates.shape[1],
        **options,
    )
    statistics = vars(Statistics.of(train))
    model.set_statistics(**{name: torch.from_numpy(array) for name, array in statistics.items()})
    return model


def test_ridge_reaches_the_noise_floor_one_step_and_at_each_horizon():
    train, valid, test = (linear_system(n, 1000, seed=n) for n in (100, 20, 600))
    model = untrained(train)
    baselines = fit_baselines(train, valid, scalings=Scalings.of(model), longest=8)
    scale = model.scaling.scale.double().numpy()
    powers = [np.linalg.matrix_power(A, k) for k in range(20)]
    added = [np.diag(power @ np.diag(NOISE**2) @ power.T) / scale**2 for power in powers]
    floor = np.cumsum(added, axis=0)  # (H, F): what noise after the start alone does

    loop = evaluate_open_loop(model, baselines, test, warmup=8, horizon=20)
    np.testing.assert_allclose(loop.errors["ridge"].mean_mse, floor.mean(axis=1), rtol=0.02)
    np.testing.assert_allclose(loop.errors["ridge"].mse, floor, rtol=0.03)
    warm = evaluate_carried_state(model, baselines, test, warmup=8)
    np.testing.assert_allclose(warm.errors["ridge"].mse, floor[0], rtol=0.02)


def test_ridge_uses_known_inputs_and_finds_an_exact_system():
    train, valid = (linear_system(10, 200, noise=0, seed=s, input_gain=0.5) for s in (1, 2))
    model = untrained(train)
    baselines = fit_baselines(train, valid, scalings=Scalings.of(model), longest=8)
    loop = evaluate_open_loop(model, baselines, valid, warmup=8, horizon=30)
    assert loop.errors["ridge"].mean_mse.max() < 1e-9
    assert loop.valid["ridge"][:, -1].sum() == loop.num_starts


def test_ridge_is_what_least_squares_over_the_rows_of_each_episode_gives():
    """Written out for two steps: no row pair reaches across the border of an episode."""
    train = linear_system(7, 50)
    scalings = Scalings.of(untrained(train))
    x = (train.values.astype(np.float64) - scalings.values.mean.numpy()) / scalings.values.scale.numpy()
    episodes = [x[first:end] for first, end in train.bounds]
    inputs = np.concatenate([np.hstack([e[:-2], e[1:-1], np.ones((len(e) - 2, 1))]) for e in episodes])
    weights = np.linalg.lstsq(inputs, np.concatenate([e[2:] for e in episodes]), rcond=None)[0]
    valid = train  # on its own training rows, the longest history and the weakest penalty fit best
    p, strength, found, bias = fit_ridge(train, valid, scalings=scalings, longest=2)
    assert (p, strength) == (2, 1e-8)
    np.testing.assert_allclose(found.flatten(0, 1).numpy(), weights[:-1], atol=1e-4)
    np.testing.assert_allclose(bias.numpy(), weights[-1], atol=1e-4)


def test_the_simple_baselines_are_what_they_are_called(waves):
    scalings = Scalings.of(untrained(waves))
    persistence, velocity, mean, _ = fit_baselines(waves, waves, scalings=scalings, longest=5)
    x = scalings.values(torch.from_numpy(waves.episode(0)))[None]
    now, covariates = x[:, 3], x[:, :2, :0]
    assert torch.equal(persistence.step(x[:, 3:4], covariates[:, :1]), now.double())
    expected = 2 * now.double() - x[:, 2]
    torch.testing.assert_close(velocity.step(x[:, 2:4], covariates), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        mean.step(x[:, :1], covariates[:, :1]), torch.zeros(1, 2).double(), rtol=0, atol=1e-6
    )


def test_warm_errors_carry_the_state_over_whole_episodes(waves, monkeypatch):
    monkeypatch.setattr(chunks, "STEPS", 7)  # episodes of 40 to 80 rows in many pieces,
    monkeypatch.setattr(chunks, "EPISODES", 5)  # and not all at once
    model = untrained(waves, output="change").eval()
    baselines = fit_baselines(waves, waves, scalings=Scalings.of(model), longest=8)
    errors = evaluate_carried_state(model, baselines, waves, warmup=12).errors
    for e in range(len(waves)):
        x = model.scaling(torch.from_numpy(waves.episode(e)))[None]
        with torch.no_grad():
            forecast, _ = model.forward_scaled(x, x[..., :0])
        late = (forecast - x.roll(-1, dims=1))[0, 11:-1].double()
        np.testing.assert_allclose(errors["model"].squared[e], late.square().sum(dim=0), rtol=1e-4)
        change = (x[0, 12:] - x[0, 11:-1]).double()
        np.testing.assert_allclose(errors["persistence"].squared[e], change.square().sum(dim=0), rtol=1e-7)
        assert errors["ridge"].count[e] == len(change)


def test_what_follows_a_row_is_not_the_next_row_where_rows_were_left_out():
    """Every second row is missing: the targets are, and the history reaches over the rows that are left."""
    full = linear_system(5, 101)
    thin = Sequences.from_episodes(
        [full.episode(e)[:-1:2] for e in range(5)],
        next_values=[full.episode(e)[1::2] for e in range(5)],
        feature_names=list("xyz"),
    )
    model = untrained(thin)
    baselines = fit_baselines(thin, thin, scalings=Scalings.of(model), longest=8)
    errors = evaluate_carried_state(model, baselines, thin, warmup=10).errors["persistence"]
    change = full.episode(3)[1::2][9:] - full.episode(3)[:-1:2][9:]
    expected = (change / model.scaling.scale.numpy()).astype(float) ** 2
    np.testing.assert_allclose(errors.squared[3], expected.sum(axis=0), rtol=1e-5)
    assert errors.count[3] == 41


def test_a_cold_start_is_shown_by_position(waves):
    model = untrained(waves, output="change").eval()
    windows = Windows(waves, length=10, stride=10)
    cold = evaluate_zero_state(model, windows)
    batch = windows.gather(torch.arange(len(windows)))
    with torch.no_grad():
        forecast, _ = model.forward_scaled(model.scaling(batch.values), batch.covariates)
    squared = (forecast - model.scaling(batch.targets)).double().square()
    np.testing.assert_allclose(cold.by_position["model"], squared.mean(dim=0), rtol=1e-5)
    np.testing.assert_allclose(cold.errors["model"].mse, squared.mean(dim=(0, 1)), rtol=1e-5)


def test_baselines_that_need_more_history_than_there_is_are_refused(waves):
    scalings = Scalings.of(untrained(waves))
    with pytest.raises(ValueError, match="2 steps of history"):
        fit_baselines(waves, waves, scalings=scalings, longest=1)
    ridge = fit_baselines(waves, waves, scalings=scalings, longest=4)[-1]
    assert ridge.context <= 4
