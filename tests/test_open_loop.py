import dataclasses

import numpy as np
import pytest
import torch

import foretrace.evaluation.rollout as rollout_module
from foretrace.data.sequences import Sequences
from foretrace.data.statistics import Statistics
from foretrace.data.windows import WindowLoader, Windows
from foretrace.errors import InputError
from foretrace.evaluation.evaluate import evaluate
from foretrace.evaluation.metrics import evaluation_metrics
from foretrace.evaluation.one_step import evaluate_one_step
from foretrace.evaluation.rollout import evaluate_open_loop, rollout
from foretrace.evaluation.storage import load_evaluation, save_evaluation
from foretrace.model.next_step import NextStepModel


def assessed(model, sequences, *, warmup=10, horizon=12):
    windows = Windows(sequences, length=10, stride=7)
    cold = evaluate_one_step(
        model, WindowLoader(windows, batch_size=8), feature_names=sequences.feature_names
    )
    return evaluate(
        model, cold=cold, train=sequences, valid=sequences, test=windows, warmup=warmup, horizon=horizon
    )


def fitted(sequences, **options):
    torch.manual_seed(0)
    features, covariates = sequences.values.shape[1], sequences.covariates.shape[1]
    model = NextStepModel(hidden_sizes=[6, 4], num_features=features, num_covariates=covariates, **options)
    statistics = vars(Statistics.of(sequences))
    model.set_statistics(**{name: torch.from_numpy(array) for name, array in statistics.items()})
    return model.eval()


@pytest.fixture
def persistence(waves):
    model = fitted(waves, output="change")
    torch.nn.init.zeros_(model.stack.head.weight)
    torch.nn.init.zeros_(model.stack.head.bias)
    return model


def test_the_persistence_forecast_has_a_skill_of_exactly_0_everywhere(persistence, waves):
    assessment = assessed(persistence, waves)
    metrics = evaluation_metrics(assessment)
    assert metrics["skill"] == metrics["skill/persistence"] == 0
    assert (metrics["skill/persistence/low"], metrics["skill/persistence/high"]) == (0, 0)
    assert assessment.open_loop_skill("persistence").tolist() == [0] * 12
    assert metrics["valid_time_steps"] == metrics["valid_time_steps/persistence"]
    assert "persistence" not in assessment.worse_than
    assert assessment.losses()["ridge"][0] == "one step, warm"  # sines are linear


def test_the_open_loop_equals_reading_the_whole_history_again_at_each_step():
    generator = np.random.default_rng(0)
    sequences = Sequences.from_episodes(
        generator.normal(size=(3, 40, 2)),
        feature_names=["x", "y"],
        covariates=list(generator.normal(size=(3, 40, 1))),
        covariate_names=["u"],
    )
    model = fitted(sequences, output="linear")
    torch.nn.init.normal_(model.skip.weight, std=0.3)
    x, covariates = (
        torch.from_numpy(array.reshape(3, 40, -1)) for array in (sequences.values, sequences.covariates)
    )
    with torch.no_grad():
        history = x[:, :15]
        for step in range(15, 40):
            forecast, _ = model.forward_scaled(history, covariates[:, :step])
            history = torch.cat([history, forecast[:, -1:]], dim=1)
        found = rollout(model, x[:, :15], covariates[:, :39], horizon=25)
    torch.testing.assert_close(found, history[:, 15:], rtol=1e-4, atol=1e-5)


def test_starts_tile_each_episode_and_short_episodes_are_counted(monkeypatch):
    monkeypatch.setattr(rollout_module, "STARTS", 2)
    ramps = [np.arange(n, dtype=float)[:, None] for n in (19, 20, 29, 30, 55)]
    sequences = Sequences.from_episodes(ramps, feature_names=["height"])
    model = fitted(sequences)
    loop = assessed(model, sequences, warmup=10, horizon=10).open_loop
    assert loop.errors["model"].count.tolist() == [0, 1, 1, 2, 4]
    assert (loop.num_starts, loop.skipped, loop.horizons) == (8, 1, (1, 2, 5, 10))
    ahead = np.arange(1, 11)[:, None] / model.scaling.scale.double().numpy()  # a ramp gains 1 a step
    np.testing.assert_allclose(loop.errors["persistence"].l1, ahead, rtol=1e-5)
    np.testing.assert_allclose(loop.errors["velocity"].l1, 0, atol=1e-5)
    assert loop.valid["velocity"].sum(axis=0).tolist() == [0] * 10 + [8]
    within = int((ahead <= rollout_module.VALID_BELOW).sum())
    assert loop.valid["persistence"].sum(axis=0)[within] == 8


def test_what_cannot_be_measured_has_a_reason(waves):
    model = fitted(waves)
    assessment = assessed(model, waves, horizon=100)
    assert assessment.open_loop is None
    assert "10 + 100 rows" in assessment.missing["open_loop"]
    thin = dataclasses.replace(waves, next_values=waves.values)
    assert "left out" in assessed(model, thin).missing["open_loop"]
    short = assessed(model, waves, warmup=80)
    assert short.warm is None
    assert "no episode has 80" in short.missing["warm"]
    assert "test/mse/low" in evaluation_metrics(short)
    with pytest.raises(ValueError, match="no open loop"):
        assessment.open_loop_skill("ridge")


def test_a_forecast_that_diverges_loses_to_every_baseline(waves):
    model = fitted(waves, output="change")
    torch.nn.init.constant_(model.stack.head.bias, 3e38)
    assessment = assessed(model, waves)
    assert set(assessment.worse_than) == {"persistence", "velocity", "mean", "ridge"}
    metrics = evaluation_metrics(assessment)
    assert metrics["valid_time_steps"] == 0
    assert "open_loop/mse/12/low" not in metrics


def test_metrics_have_names_that_a_tracker_takes(waves):
    metrics = evaluation_metrics(assessed(fitted(waves), waves))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_/") for name in metrics)
    for name in ("test/mse", "warm/mse", "open_loop/mse/10", "skill/ridge", "valid_time_s"):
        assert metrics[f"{name}/low"] <= metrics[name] <= metrics[f"{name}/high"]
    for name in ("cold/mse/1", "warm/ridge/mse", "open_loop/persistence/mse/12", "open_loop/skill/mean/5"):
        assert np.isfinite(metrics[name])


def test_an_assessment_comes_back_from_its_file(waves, tmp_path):
    for name, horizon in (("whole", 12), ("without open loop", 100)):
        assessment = assessed(fitted(waves), waves, horizon=horizon)
        save_evaluation(assessment, tmp_path / name)
        loaded = load_evaluation(tmp_path / name)
        assert evaluation_metrics(loaded) == evaluation_metrics(assessment)
        assert loaded.losses() == assessment.losses()
        for plain in ("digest", "episode_names", "recordings", "units", "missing", "chosen"):
            assert getattr(loaded, plain) == getattr(assessment, plain)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x93NUMPY"])
def test_a_file_that_is_no_assessment_is_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InputError, match="Evaluate the run again"):
        load_evaluation(tmp_path / "other")


def test_a_longer_past_costs_no_more_per_step(waves):
    """Counted in steps that the network reads: the warm-up once, then one for each step ahead."""
    model, read = fitted(waves), []
    forward = model.stack.forward
    model.stack.forward = lambda x, state=None: read.append(x.shape[1]) or forward(x, state)
    baselines = ()
    evaluate_open_loop(model, baselines, waves, warmup=20, horizon=15)
    assert read == [20] + [1] * 14
