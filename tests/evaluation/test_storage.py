import json

import numpy as np
import pytest

from foretrace.errors import UserError
from foretrace.evaluation.metrics import evaluation_metrics
from foretrace.evaluation.storage import load_evaluation, save_evaluation


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
