"""What a run tells of its making."""

import json
import os

import pytest
import torch

from foretrace.tracking import provenance
from foretrace.tracking.provenance import collect

CPU = torch.device("cpu")


SECRETS = [
    "tracking.uri=http://ann:hunter2@host",
    "tracking.uri='https://ann:hunter2@host:5000/path'",
    'tracking.uri="https://ann:hun%40ter2hunter2@host"',
    "tracking.uri=https://ann:p@ss/hunter2@host",
    "tracking.uri=https://ann:p/ss hunter2@host",
    "tracking.uri=postgresql+psycopg2://ann:hunter2@host/runs",
    "tracking.uri=https://hunter2@host",
    "data.path='s3://bucket/file.csv?X-Amz-Signature=hunter2&part=1'",
    "tracking.tags={token: hunter2, who: ann}",
    "+tracking.tags.api_key=it's, hunter2",
    "MLFLOW_TRACKING_PASSWORD=hunter2",
    "MLFLOW_TRACKING_TOKEN='hunter2'",
    "tracking.tags={header: Bearer hunter2}",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_not_recorded(monkeypatch, secret):
    monkeypatch.setattr("sys.argv", ["src/train.py"])
    line = provenance.command([secret, "seed=1"])
    assert "***" in line
    assert "hunter2" not in line
    assert line.endswith(" seed=1")


@pytest.mark.parametrize(
    "plain", ["data.path=s3://bucket/a@2.csv", "data.features=[tokenizer, monkey]", "a=http://h:5/p@1"]
)
def test_what_is_no_secret_is_recorded(monkeypatch, plain):
    monkeypatch.setattr("sys.argv", ["src/train.py"])
    assert plain in provenance.command([plain])


def test_no_variable_that_is_not_of_a_library_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("LD_PRELOAD", "http://ann:hunter2@host/lib")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found, _ = collect(tmp_path, device=CPU)
    assert "hunter2" not in json.dumps(found)
    assert found["variables"]["OMP_NUM_THREADS"] == "1"


def test_each_start_is_one_line_without_secrets(tmp_path):
    changed = {"trainer.max_epochs": (5, 9), "tracking.tags": ({"token": "hunter2"}, "http://a:hunter2@host")}
    text = provenance.start(tmp_path, ["tracking.tags={token: hunter2}"], kind="resume", changed=changed)
    assert "hunter2" not in text
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["kind"], line["dirty"], line["pid"]) == ("resume", "unknown", os.getpid())
    assert line["changed"]["trainer.max_epochs"] == [5, 9]
