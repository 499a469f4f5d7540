"""What differs between the surroundings of a run and those of its repetition."""

import json

import torch

from foretrace.commands.record import differences
from foretrace.tracking.provenance import collect

CPU = torch.device("cpu")


def test_nothing_differs_where_nothing_changed(tmp_path):
    recorded = json.loads(json.dumps(collect(tmp_path, device=CPU)[0]))
    assert differences(recorded, collect(tmp_path, device=CPU)[0]) == []


def test_differences_name_what_changed_and_what_matters_first(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    recorded = json.loads(json.dumps(collect(tmp_path, device=CPU)[0]))
    (tmp_path / "src" / "train.py").write_text("train()")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    today = json.loads(json.dumps(collect(tmp_path, device=CPU)[0]))
    today["libraries"]["installed"] |= {"torch": "9.9", "zzz": "1.0"}
    today["torch"]["threads"] = 99
    lines = differences(recorded, today)
    named = [line.split(":")[0] for line in lines]
    assert named == ["code.sources", "torch", "torch.threads", "variables.MKL_CBWR"]
    assert lines[-1] == "variables.MKL_CBWR: not set then, COMPATIBLE now"


def test_a_record_that_holds_nothing_is_compared_with_nothing():
    assert differences({}, {"torch": {"threads": 2}, "variables": {"OMP_NUM_THREADS": "1"}}) == []
