import dataclasses

import numpy as np
import torch

from foretrace.data.sequences import Sequences
from foretrace.evaluation import rollout as rollout_module
from foretrace.evaluation.open_loop import VALID_BELOW


def test_rollout_equals_reading_the_whole_history_again_at_each_step(untrained):
    generator = np.random.default_rng(0)
    sequences = Sequences.from_episodes(
        generator.normal(size=(3, 40, 2)),
        feature_names=["x", "y"],
        covariates=list(generator.normal(size=(3, 40, 1))),
        covariate_names=["u"],
    )
    model = untrained(sequences, hidden_sizes=(6, 4), output="linear")
    torch.nn.init.normal_(model.skip.weight, std=0.3)
    x, covariates = (
        torch.from_numpy(array.reshape(3, 40, -1)) for array in (sequences.values, sequences.covariates)
    )
    with torch.no_grad():
        history = x[:, :15]
        for step in range(15, 40):
            forecast, _ = model.forward_scaled(history, covariates[:, :step])
            history = torch.cat([history, forecast[:, -1:]], dim=1)
        found, _ = model.rollout(x[:, :15], covariates[:, :39], horizon=25)
    torch.testing.assert_close(found, history[:, 15:], rtol=1e-4, atol=1e-5)


def test_rollout_reads_the_warmup_once_and_then_one_step_at_a_time(untrained, waves):
    model, read = untrained(waves), []
    model.stack.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    model.rollout(torch.zeros(1, 20, 2), torch.zeros(1, 34, 0), horizon=15)
    assert read == [20] + [1] * 14


def test_starts_tile_each_episode(untrained, evaluated, monkeypatch):
    monkeypatch.setattr(rollout_module, "STARTS", 2)
    ramps = [np.arange(n, dtype=float)[:, None] for n in (19, 20, 29, 30, 55)]
    sequences = Sequences.from_episodes(ramps, feature_names=["height"])
    model = untrained(sequences)
    loop = evaluated(model, sequences, warmup=10, horizon=10).open_loop
    assert loop.errors["model"].count.tolist() == [0, 1, 1, 2, 4]
    assert (loop.num_starts, loop.horizons) == (8, (1, 2, 5, 10))
    ahead = np.arange(1, 11)[:, None] / model.scaling.scale.double().numpy()  # a ramp gains 1 a step
    np.testing.assert_allclose(loop.errors["persistence"].l1, ahead, rtol=1e-5)
    np.testing.assert_allclose(loop.errors["velocity"].l1, 0, atol=1e-5)
    assert loop.valid["velocity"].sum(axis=0).tolist() == [0] * 10 + [8]
    within = int((ahead <= VALID_BELOW).sum())
    assert loop.valid["persistence"].sum(axis=0)[within] == 8


def test_what_cannot_be_measured_has_a_reason(untrained, evaluated, waves):
    model = untrained(waves)
    result = evaluated(model, waves, horizon=100)
    assert result.open_loop is None
    assert "10 + 100 rows" in result.unavailable["open_loop"]
    thin = dataclasses.replace(waves, next_values=waves.values)
    assert "left out" in evaluated(model, thin).unavailable["open_loop"]
    short = evaluated(model, waves, warmup=80)
    assert short.carried_state is None
    assert "no episode has 80" in short.unavailable["carried_state"]
