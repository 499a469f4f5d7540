import numpy as np
import pytest
import torch

from foretrace.evaluation.metrics import evaluation_metrics


def test_persistence_model_has_a_skill_of_exactly_0(persistence, evaluated, waves):
    result = evaluated(persistence, waves)
    scalars, curves = evaluation_metrics(result)
    assert scalars["skill"] == scalars["skill/persistence"] == 0
    assert curves["open_loop/mse"] == curves["open_loop/persistence/mse"]
    assert scalars["valid_time_steps"] == scalars["valid_time_steps/persistence"]


def test_names_are_few_and_what_a_tracker_takes(untrained, evaluated, waves):
    scalars, curves = evaluation_metrics(evaluated(untrained(waves), waves))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_/") for name in [*scalars, *curves])
    assert len(scalars) + len(curves) <= 50
    assert list(curves["open_loop/ridge/mse"]) == list(range(1, 13))
    assert list(curves["zero_state/mse"]) == list(range(1, 11))
    assert {"test/mse", "test/l1", "persistence/raw/l1", "carried_state/mse", "valid_time_s"} <= set(scalars)


def test_scalars_agree_with_the_errors_of_each_window(untrained, evaluated, waves):
    scalars, curves = evaluation_metrics(evaluated(untrained(waves), waves))
    assert scalars["test/mse"] == pytest.approx(np.mean(list(curves["zero_state/mse"].values())))
    assert scalars["test/l1"] <= scalars["test/mse"] ** 0.5


def test_a_forecast_that_diverges_has_no_valid_time(untrained, evaluated, waves):
    model = untrained(waves, output="change")
    torch.nn.init.constant_(model.stack.head.bias, 3e38)
    result = evaluated(model, waves)
    assert set(result.worse_than) == {"persistence", "velocity", "mean", "ridge"}
    assert evaluation_metrics(result)[0]["valid_time_steps"] == 0
    assert not result.mse_interval(result.open_loop.errors["model"]).known
