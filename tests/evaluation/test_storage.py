import json

import numpy as np
import pytest
import torch

from foretrace.errors import UserError
from foretrace.evaluation.storage import evaluation_metrics, load_evaluation, save_evaluation


@pytest.mark.parametrize("horizon", [12, 100])  # 100: without an open loop
def test_evaluation_comes_back_from_its_file(untrained, evaluated, waves, tmp_path, horizon):
    result = evaluated(untrained(waves), waves, horizon=horizon)
    save_evaluation(result, tmp_path / "whole.npz")
    loaded = load_evaluation(tmp_path / "whole.npz")
    assert evaluation_metrics(loaded) == evaluation_metrics(result)
    assert loaded.sentences == result.sentences
    for name in ("digest", "num_episodes", "grouped_by", "units", "unavailable", "chosen"):
        assert getattr(loaded, name) == getattr(result, name)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x93NUMPY"])
def test_foreign_file_is_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UserError, match="Evaluate the run again"):
        load_evaluation(tmp_path / "other")


def test_file_with_arrays_that_do_not_fit_together_is_refused(untrained, evaluated, waves, tmp_path):
    save_evaluation(evaluated(untrained(waves), waves), tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as file:
        arrays = dict(file)
    broken = [
        {"result/scale": np.ones(3)},
        {"result/scale": np.array(["a", "b"])},
        {"result/zero_state/errors/model/count": np.ones(2, np.int64)},
        {"content": np.array(json.dumps({"format": 2}))},
    ]
    for change in broken:
        np.savez(tmp_path / "broken.npz", **(arrays | change))
        with pytest.raises(UserError, match="not an evaluation of this version"):
            load_evaluation(tmp_path / "broken.npz")


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
