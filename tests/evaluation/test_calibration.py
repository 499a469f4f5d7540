import numpy as np
import pytest
import torch
from scipy import stats

from foretrace.config import Evaluation
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.calibration import Calibration, Climatology, calibrate, fit
from foretrace.evaluation.forecast_errors import CALIBRATED, MODEL
from foretrace.evaluation.references import fit_references
from foretrace.evaluation.result import evaluate
from foretrace.evaluation.rollout import iterate_rollouts
from foretrace.training.module import Forecaster

PHI, LEVELS = 0.9, [50.0, 80.0, 90.0]


def ar1(episodes, steps, *, seed, noise=1.0):
    """x_{t+1} = φ x_t + noise, from its stationary distribution."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(episodes, 1)) * noise / np.sqrt(1 - PHI**2)
    rows = [x := PHI * x + noise * generator.normal(size=x.shape) for _ in range(steps)]
    return Sequences.from_episodes(list(np.stack(rows, axis=1)), feature_names=["x"])


def perfect(untrained, sequences):
    """A model that forecasts φ x, as its linear part does alone."""
    model = untrained(sequences, output="linear")
    with torch.no_grad():
        for parameter in model.stack.head.parameters():
            parameter.zero_()
        mean, scale = float(model.scaling.mean), float(model.scaling.scale)
        model.skip.weight.fill_((PHI - 1) / float(model.change))
        model.stack.head.bias.fill_((PHI - 1) * mean / scale / float(model.change))
    return model


def evaluated_on(test, *, model, train, valid, horizon=20):
    settings = Evaluation(warmup=5, horizon=horizon, levels=LEVELS)
    references = fit_references(model, train=train, valid=valid, settings=settings)
    return evaluate(model, Windows(test, length=10, stride=10), references, settings=settings), references


@pytest.fixture(scope="module")
def parts():
    return ar1(50, 200, seed=1), ar1(200, 225, seed=2), ar1(200, 225, seed=3)


def test_intervals_of_a_known_process_have_its_quantiles_and_cover_what_they_should(untrained, parts):
    train, valid, test = parts
    model = perfect(untrained, train)
    result, references = evaluated_on(test, model=model, train=train, valid=valid)
    calibration = references.calibration
    sd = np.sqrt((1 - PHI ** (2 * np.arange(1, 21))) / (1 - PHI**2)) / float(model.scaling.scale)
    for number, level in enumerate(LEVELS):
        exact = stats.norm.ppf(0.5 + level / 200) * sd
        np.testing.assert_allclose(calibration.half_width[number, :, 0], exact, rtol=0.05)
    assert calibration.shrinkage.min() > 0.85
    scores = result.open_loop.intervals[CALIBRATED]
    binomial = np.sqrt(0.9 * 0.1 / scores.count.sum())
    assert np.abs(scores.coverage[2] - 0.9).max() < 4 * binomial
    assert (scores.crps < result.open_loop.intervals["climatology"].crps)[:10].all()
    assert result.coverage_sentence.split(",")[1].split(";")[0] in (" consistent with 90 %", " close to 90 %")


def test_intervals_are_called_too_narrow_on_data_that_changed(untrained, parts):
    train, valid, _ = parts
    model = perfect(untrained, train)
    result, _ = evaluated_on(ar1(50, 225, seed=4, noise=2.0), model=model, train=train, valid=valid)
    assert result.open_loop.intervals[CALIBRATED].coverage[2].max() < 0.7
    assert "too narrow" in result.coverage_sentence


def test_forecast_that_says_nothing_shrinks_to_the_mean():
    generator = np.random.default_rng(0)
    forecast, truth = generator.normal(size=(2, 600, 3, 2))
    truth[:, 0] = 0.5 * forecast[:, 0]  # the first step is half as large as forecast
    found = fit(forecast, truth, np.arange(600) % 20, levels=LEVELS, center=np.zeros(2), shrink=True)
    np.testing.assert_allclose(found.shrinkage[0], 0.5)
    assert found.shrinkage[1:].max() < 0.1
    assert ((found.limits(truth)[0] - found.center) ** 2).sum() < (truth**2).sum()


def test_each_recording_weighs_the_same():
    """Nine recordings have one start each, the tenth ninety."""
    group = np.concatenate([np.arange(9), np.full(90, 9)])
    truth = np.where(group == 9, 100.0, 1.0)[:, None, None]
    found = fit(np.zeros_like(truth), truth, group, levels=[50.0], center=np.zeros(1), shrink=False)
    assert found.half_width.item() == 1


@pytest.mark.parametrize(("recordings", "levels"), [(1, [50]), (3, [50]), (4, [50, 80]), (60, [50, 80, 90])])
def test_few_recordings_have_wider_intervals_or_none(recordings, levels):
    truth = np.random.default_rng(0).normal(size=(recordings * 50, 1, 1))
    group = np.arange(len(truth)) % recordings
    found = fit(np.zeros_like(truth), truth, group, levels=LEVELS, center=np.zeros(1), shrink=False)
    assert found.levels == tuple(levels)
    assert list(found.unavailable) == [level for level in LEVELS if level not in levels]
    assert found.half_width[0].item() >= np.quantile(np.abs(truth), 0.5)


def test_coverage_holds_for_another_recording_where_recordings_differ():
    """Recordings differ in scale: coverage is over recordings, on average over validation sets."""
    generator, covered = np.random.default_rng(0), []
    for _ in range(200):
        scale = np.exp(generator.normal(size=13))[:, None] * np.ones(30)
        errors = (scale * generator.normal(size=scale.shape))[..., None, None]
        valid = errors[:12].reshape(-1, 1, 1)
        group = np.repeat(np.arange(12), 30)
        found = fit(np.zeros_like(valid), valid, group, levels=[80.0], center=np.zeros(1), shrink=False)
        covered.append((np.abs(errors[12]) <= found.half_width.item()).mean())
    assert 0.77 < np.mean(covered) < 0.85


def test_few_validation_recordings_shrink_no_forecast(untrained):
    model = untrained(train := ar1(20, 60, seed=1))
    settings = Evaluation(warmup=10, horizon=40, levels=LEVELS)
    few, enough = (calibrate(model, [], train=train, valid=ar1(count, 60, seed=2), settings=settings)[0][MODEL]
                   for count in (1, 20))  # fmt: skip
    assert (few.shrinkage == 1).all()
    assert (enough.shrinkage < 1).any()


def test_validation_episodes_too_short_for_the_horizon_give_a_shorter_calibration(untrained):
    model = untrained(train := ar1(20, 40, seed=1))
    settings = Evaluation(warmup=10, horizon=100, levels=LEVELS)
    found, reason = calibrate(model, [], train=train, valid=train, settings=settings)
    assert not reason
    calibration = found[MODEL]
    assert calibration.horizon == 30
    _, lower, upper = calibration.limits(np.ones((1, 50, 1)))
    np.testing.assert_array_equal((upper - lower)[:, 0, 30:], (upper - lower)[:, 0, 29:30].repeat(20, 1))


def test_calibration_survives_being_written_down():
    truth = np.random.default_rng(0).normal(size=(500, 4, 2))
    found = fit(0.3 * truth, truth, np.arange(500) % 10, levels=LEVELS, center=np.ones(2), shrink=True)
    read = Calibration.from_parts(found.facts(), found.arrays())
    for ours, theirs in zip(found.limits(truth), read.limits(truth), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert Calibration.from_parts({}, {}) is None
    with pytest.raises(ValueError, match="do not fit together"):
        Calibration.from_parts(found.facts(), found.arrays() | {"center": np.ones(3)})


def test_climatology_is_the_quantiles_of_training():
    climatology = Climatology.of(np.arange(1001.0)[:, None], levels=[80.0])
    point, lower, upper = climatology.limits(np.zeros((2, 3, 1)))
    found = [point[0, 0, 0], lower[0, 1, 2, 0], upper[0, 0, 0, 0]]
    np.testing.assert_allclose(found, [500, 100, 900])


def hours(episodes, steps, *, seed):
    """AR(1) with noise that is ten times as large after a wild row as after a calm one; which it is can be read."""
    generator = np.random.default_rng(seed)
    x, rows = np.zeros(episodes), []
    for step in range(steps):
        wild = (step + np.arange(episodes)) // 20 % 2
        rows.append(np.stack([x, wild + 0.05 * generator.normal(size=episodes)], axis=-1))
        x = PHI * x + np.where(wild, 1.0, 0.1) * generator.normal(size=episodes)
    return Sequences.from_episodes(list(np.stack(rows, axis=1)), feature_names=["x", "wild"])


def learned(kind, sequences):
    torch.manual_seed(0)
    forecaster = Forecaster(
        features={"names": ["x", "wild"], "units": [], "covariates": [], "dt_s": None, "digest": ""},
        model={"hidden_sizes": [16], "output": "change", "frozen": []},
        loss={"kind": kind, "units": "scaled", "input_noise": 0.0, "open_loop": None},
        optimizer={"name": "Adam", "lr": 0.01},
    )
    forecaster.set_statistics(sequences.statistics)
    windows, optimizer = Windows(sequences, length=30, stride=15), forecaster.configure_optimizers()
    for _ in range(200):
        optimizer.zero_grad()
        batch = windows.gather(torch.randint(len(windows), (32,)))
        forecaster.training_step(batch, 0)["loss"].backward()
        optimizer.step()
    return forecaster.model.eval()


def test_gaussian_intervals_cover_in_calm_and_in_wild_hours_where_those_of_one_width_do_not():
    train, valid, test = (hours(40, 200, seed=seed) for seed in (1, 2, 3))
    settings, covered = Evaluation(warmup=20, horizon=1, levels=[90.0]), {}
    for kind in ("mse", "gaussian"):
        model = learned(kind, train)
        calibration = calibrate(model, [], train=train, valid=valid, settings=settings)[0][MODEL]
        some = next(iterate_rollouts(model, [], test, warmup=20, horizon=1, stride=7))
        spread = None if some.spread is None else some.spread.numpy()
        _, [lower], [upper] = calibration.limits(some.forecasts[MODEL].numpy(), spread)
        truth = some.truth.numpy()
        within = ((lower <= truth) & (truth <= upper))[:, 0, 0]
        wild = np.array([test.episode(e)[s, 1] for e, s in zip(some.episodes, some.steps, strict=True)]) > 0.5
        covered[kind] = within[~wild].mean(), within[wild].mean()
    assert covered["mse"][0] > 0.97
    assert covered["mse"][1] < 0.85
    assert covered["gaussian"] == pytest.approx((0.9, 0.9), abs=0.05)


def test_width_follows_a_spread_as_far_as_it_tells_the_errors_apart():
    generator = np.random.default_rng(0)
    spread = np.where(np.arange(4000) % 2, 2.0, 0.2)[:, None, None] * np.ones((4000, 3, 1))
    truth, zero = spread * generator.normal(size=spread.shape), np.zeros(spread.shape)
    truth[:, 2] = generator.normal(
        size=(4000, 1)
    )  # two steps ahead it tells them apart, three steps ahead not
    given = {"levels": [90.0], "center": np.zeros(1), "shrink": False}
    found = fit(zero, truth, np.arange(4000) // 200, spread=spread, **given)
    np.testing.assert_allclose(found.exponent[:, 0], [1, 1, 0], atol=0.05)
    read = Calibration.from_parts(found.facts(), found.arrays())
    _, lower, upper = read.limits(zero, spread)
    within = (lower[0] <= truth) & (truth <= upper[0])
    for hours in (within[::2], within[1::2]):
        np.testing.assert_allclose(hours.mean(axis=(0, 2)), 0.9, atol=0.03)
    constant = fit(zero, truth, np.arange(4000) // 200, **given)
    assert (
        np.abs(truth[::2, 0]) <= constant.half_width[0, 0]
    ).all()  # of one width: too wide here, too narrow there
    assert (np.abs(truth[1::2, 0]) <= constant.half_width[0, 0]).mean() < 0.83
