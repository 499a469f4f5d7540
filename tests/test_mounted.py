"""A folder of runs that is mounted into an image, where it has another path and other processes."""

import shutil
import signal

import pytest
from helpers import ROOT
from mlflow import MlflowClient

from foretrace.commands import cli
from foretrace.serving.registry import download
from foretrace.tracking import recovery, store
from foretrace.tracking.process import Process
from foretrace.tracking.run import TrackedRun
from foretrace.workspace import Workspace


def begin(root) -> TrackedRun:
    made = store.create_run(workspace=Workspace(root), uri=None, experiment="test", name="one", tags={})
    return TrackedRun(*made, staging=root / "mlruns" / "staging")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The checkout; its runs are at ``image`` while a container is at work."""
    (tmp_path / "outside" / "mlruns").mkdir(parents=True)
    (tmp_path / "outside" / "mlflow.db").symlink_to("mlruns/mlflow.db")
    return tmp_path / "outside"


@pytest.fixture
def enter(outside, monkeypatch):
    """Mounts the runs of the checkout in an image, or takes them back."""
    image = outside.parent / "app"

    def move(*, inside: bool):
        before, after = (outside, image) if inside else (image, outside)
        shutil.move(before, after)
        monkeypatch.setenv(store.MOUNTED, "1") if inside else monkeypatch.delenv(store.MOUNTED)
        return after

    return move


def names(client: MlflowClient, tracked: TrackedRun) -> list[str]:
    return [file.path for file in client.list_artifacts(tracked.id)]


def test_artifacts_of_an_image_are_seen_from_outside_without_another_command(outside, enter, monkeypatch):
    with begin(enter(inside=True)) as tracked:
        tracked.log_text("notes.txt", "from the image")
    monkeypatch.chdir(enter(inside=False))  # where people type `mlflow ui`
    assert names(MlflowClient("sqlite:///mlflow.db"), tracked) == ["notes.txt"]
    monkeypatch.chdir(ROOT)
    assert names(store.open_store(workspace=Workspace(outside), uri=None), tracked) == ["notes.txt"]


def test_an_image_adds_to_what_was_made_outside_and_leaves_it_there(outside, enter, monkeypatch):
    with begin(outside) as first:
        first.text("notes.txt", "from outside")
    image = enter(inside=True)
    with begin(image) as second:
        second.text("notes.txt", "from the image")
    found = TrackedRun(
        *store.find_run(first.id, workspace=Workspace(image), uri=None), staging=image / "mlruns" / "staging"
    )
    assert found.fetch("notes.txt").read_text() == "from outside"
    enter(inside=False)
    client = MlflowClient(f"sqlite:///{outside}/mlflow.db")  # and nothing but MLflow itself
    assert names(client, first) == names(client, second) == ["notes.txt"]


def test_a_free_lock_ends_runs_of_this_machine_only(outside):
    processes = {
        "a container of this machine": {"namespace": "pid:[1]", "pid": "1"},
        "before this machine was started anew": {"boot": "another"},
        "a machine that mounts the folder too": {"boot": "another", "machine": "another"},
        "a container in a virtual machine": {"boot": "another", "machine": "", "namespace": "pid:[1]"},
    }
    runs = {where: begin(outside) for where in processes}
    for where, tracked in runs.items():
        there = Process.this()._replace(started="1", **processes[where])
        for name, value in there.tags().items():
            tracked.client.set_tag(tracked.id, name, value)
        folder = outside / "mlruns" / "staging" / tracked.id
        folder.mkdir(parents=True)
        (folder / recovery.LOCK).touch()
    ended = recovery.mend(tracked.client, experiments=["1"], staging=folder.parent)
    assert set(ended) == {tracked.id for tracked in list(runs.values())[:2]}
    assert [tracked.client.get_run(tracked.id).info.status for tracked in runs.values()] == (
        ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    )


def test_a_registered_model_is_found_in_an_image(outside, enter, monkeypatch, tmp_path):
    with begin(outside) as tracked:
        tracked.log_text("model/MLmodel", "a model")
    tracked.client.create_registered_model("gait")
    tracked.client.create_model_version("gait", f"{tracked.folder.as_uri()}/model", run_id=tracked.id)
    monkeypatch.setenv("FORETRACE_HOME", str(enter(inside=True)))
    assert (download("models:/gait/1", tmp_path) / "MLmodel").read_text() == "a model"


def test_a_command_obeys_sigterm_from_its_first_moment_as_process_1_too(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sys.argv", ["src/predict.py"])
    assert cli.call(lambda: signal.raise_signal(signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"
    signal.signal(signal.SIGTERM, before)
