import numpy as np
import torch

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation import chunks
from foretrace.evaluation.baselines import fit_baselines
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import Groups
from foretrace.evaluation.one_step import evaluate_carried_state, evaluate_zero_state, forecast_episodes


def carried(model, sequences, warmup):
    baselines = fit_baselines(sequences, sequences, scalings=Scalings.of(model), longest=8)
    return evaluate_carried_state(
        model, baselines, sequences, Groups.of(sequences, stretch=10), warmup=warmup
    )


def test_zero_state_errors_are_means_over_all_windows(untrained, waves):
    model, windows = untrained(waves, output="change"), Windows(waves, length=10, stride=10)
    found = evaluate_zero_state(model, windows, Groups.of(waves, stretch=10))
    batch = windows.gather(torch.arange(len(windows)))
    with torch.no_grad():
        error = model(batch.values, batch.covariates)[0] - batch.targets
    scaled = error.double() / model.scaling.scale
    np.testing.assert_allclose(found.by_position["model"], scaled.square().mean(dim=0), rtol=1e-5)
    np.testing.assert_allclose(found.errors["model"].l1, scaled.abs().mean(dim=(0, 1)), rtol=1e-5)
    raw = found.errors["model"].in_units(model.scaling.scale.double().numpy())
    np.testing.assert_allclose(raw.mse, error.square().mean(dim=(0, 1)), rtol=1e-5)


def test_carried_state_errors_run_over_whole_episodes(untrained, waves, monkeypatch):
    monkeypatch.setattr(chunks, "STEPS", 7)  # episodes of 40 to 80 rows in many chunks,
    monkeypatch.setattr(chunks, "EPISODES", 5)  # and not all at once
    model = untrained(waves, output="change")
    errors = carried(model, waves, 12).errors
    for e in range(len(waves)):
        x = model.scaling(torch.from_numpy(waves.episode(e)))[None]
        with torch.no_grad():
            forecast, _ = model.forward_scaled(x, x[..., :0])
        late = (forecast - x.roll(-1, dims=1))[0, 11:-1].double()
        np.testing.assert_allclose(errors["model"].squared[e], late.square().sum(dim=0), rtol=1e-4)
        change = (x[0, 12:] - x[0, 11:-1]).double()
        np.testing.assert_allclose(errors["persistence"].squared[e], change.square().sum(dim=0), rtol=1e-7)
        assert errors["ridge"].count[e] == len(change)


def test_next_rows_are_the_recorded_ones_where_rows_were_left_out(untrained):
    """Every second row is missing: the targets are, and the history reaches over the rows that are left."""
    full = np.random.default_rng(0).normal(size=(5, 101, 3)).astype(np.float32).cumsum(axis=1)
    thin = Sequences.from_episodes(
        list(full[:, :-1:2]), next_values=list(full[:, 1::2]), feature_names=list("xyz")
    )
    model = untrained(thin)
    errors = carried(model, thin, 10).errors["persistence"]
    change = full[3, 1::2][9:] - full[3, :-1:2][9:]
    expected = (change / model.scaling.scale.numpy()).astype(float) ** 2
    np.testing.assert_allclose(errors.squared[3], expected.sum(axis=0), rtol=1e-4)
    assert errors.count[3] == 41


def test_one_long_recording_is_grouped_by_time(untrained):
    walk = np.random.default_rng(0).normal(size=(300, 1)).cumsum(axis=0)
    sequences = Sequences.from_episodes([walk], feature_names=["x"])
    errors = carried(untrained(sequences), sequences, 10).errors["persistence"]
    assert errors.count.tolist() == [1] + [10] * 28 + [9]


def test_forecast_episode_is_aligned_with_what_came(untrained, waves):
    prediction, truth = forecast_episodes(untrained(waves), waves, count=4, max_steps=25)[3]
    assert prediction.shape == truth.shape == (25, 2)
    np.testing.assert_array_equal(truth, waves.episode(3)[1:26])
