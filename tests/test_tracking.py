import math
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient

from foretrace.errors import InputError, Interrupted
from foretrace.tracking import provenance
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.store import create_run
from foretrace.tracking.writer import StoreWriter
from foretrace.workspace import Workspace


@pytest.fixture
def tracked(tmp_path):
    client, run = create_run(
        workspace=Workspace(tmp_path), uri=None, experiment="test", name="one", tags={"colour": "blue"}
    )
    return TrackedRun(client, run, staging=tmp_path / "staging")


def status(tracked: TrackedRun) -> str:
    return tracked.client.get_run(tracked.id).info.status


def test_a_run_that_ends_well_is_finished_with_all_its_points(tracked):
    with tracked:
        for step in range(1500):  # more than one request may hold
            tracked.log_metrics({"MSE train loss": torch.tensor(float(step))}, step=step)
        tracked.log_figures([("empty", Figure())])
    assert status(tracked) == "FINISHED"
    assert tracked.history("MSE train loss") == (list(range(1500)), [float(step) for step in range(1500)])
    assert [file.path for file in tracked.client.list_artifacts(tracked.id, "figures")] == [
        "figures/empty.png"
    ]


def fail(tracked: TrackedRun) -> None:
    with tracked:
        tracked.log_metrics({"loss": math.nan}, step=0)
        _ = 1 / 0


def test_a_run_that_fails_says_why(tracked):
    with pytest.raises(ZeroDivisionError):
        fail(tracked)
    assert status(tracked) == "FAILED"
    assert tracked.client.get_run(tracked.id).data.tags["error"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in (tracked.folder / "traceback.txt").read_text()
    assert tracked.history("loss")[0] == [0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_is_killed(tracked, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted), tracked:
        signal.raise_signal(number)
    assert status(tracked) == "KILLED"
    assert signal.getsignal(number) == before


def test_many_parameters_and_long_ones_fit(tracked):
    with tracked:
        tracked.log_params({f"setting {n}": "x" * 7000 for n in range(250)})
    params = tracked.client.get_run(tracked.id).data.params
    assert len(params) == 250
    assert {len(value) for value in params.values()} == {6000}


def test_runs_that_name_the_same_data_at_once_all_do(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment, together = client.create_experiment("first runs"), threading.Barrier(4)
    fields = dict.fromkeys(["name", "source_type", "source", "schema", "profile", "context"], "{}")

    def name_data(run, digest):
        together.wait()
        StoreWriter(client, run, tmp_path).tell({"dataset": fields | {"digest": digest}})

    with ThreadPoolExecutor(4) as pool:
        for digest in "12345":
            runs = [client.create_run(experiment) for _ in range(4)]
            list(pool.map(name_data, runs, digest * 4))
    assert len(client.get_run(runs[-1].info.run_id).inputs.dataset_inputs) == 1


def test_a_deleted_experiment_is_not_written_to(tracked, tmp_path):
    tracked.client.delete_experiment(tracked.client.get_run(tracked.id).info.experiment_id)
    with pytest.raises(InputError, match=r"tracking\.experiment: expected an active experiment, .*deleted"):
        create_run(workspace=Workspace(tmp_path), uri=None, experiment="test", name="two", tags={})


def test_a_store_that_does_not_answer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"tracking\.uri: expected a tracking store that answers"):
        create_run(
            workspace=Workspace(tmp_path), uri="carrier-pigeon://coop", experiment="test", name="one", tags={}
        )


def test_a_password_in_the_command_is_not_recorded(monkeypatch):
    monkeypatch.setattr("sys.argv", ["src/train.py"])
    line = provenance.command(["tracking.uri=https://ann:secret@host/path", "seed=1"])
    assert line == "python src/train.py tracking.uri=https://***@host/path seed=1"
