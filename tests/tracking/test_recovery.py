"""Runs of dead processes, of other containers and of folders that were moved."""

import shutil

import pytest
from filelock import FileLock
from helpers import ROOT
from mlflow import MlflowClient

from foretrace.commands import runs
from foretrace.errors import UserError
from foretrace.serving.loading import registered_run
from foretrace.tracking import recovery, store
from foretrace.tracking.outbox import REFUSED
from foretrace.tracking.recovery import Process
from foretrace.tracking.run import TrackedRun
from foretrace.workspace import Workspace


def test_what_the_store_will_never_take_blocks_nothing(begin, kill, stored, capsys):
    dead = begin()
    values = {"good": 1.0, "bad": "no number", "better": 1.0}
    points = [{"metrics": [[name, value, 1, 0]]} for name, value in values.items()]
    left = kill(dead, *points)
    with (left.folder / "records.jsonl").open("a") as file:
        file.write("neither is this\n")
    begin()
    assert stored(dead).info.status == "KILLED"
    assert set(stored(dead).data.metrics) == {"good", "better"}
    assert len((left.folder / REFUSED).read_text().splitlines()) == 2
    assert capsys.readouterr().err.count("was refused and set aside") == 2


def test_what_a_dead_process_left_of_a_deleted_run_does_not_stop_the_next(begin, kill, stored):
    dead = begin()
    kill(dead, {"tags": {"color": "green"}})
    dead.client.delete_run(dead.id)
    assert stored(begin()).info.status == "RUNNING"


def test_a_free_lock_ends_runs_of_this_machine_only(begin, kill, stored, workspace, monkeypatch, tmp_path):
    (tmp_path / "machine-id").write_text("0123456789abcdef\n")
    monkeypatch.setattr(recovery, "MACHINE_ID", tmp_path / "machine-id")
    processes = {
        "a container of this machine": {"namespace": "pid:[1]", "pid": "1"},
        "before this machine was started anew": {"boot": "another"},
        "a machine that mounts the folder too": {"boot": "another", "machine": "another"},
        "a container in a virtual machine": {"boot": "another", "machine": "", "namespace": "pid:[1]"},
    }
    started = [begin() for _ in processes]
    for tracked, there in zip(started, processes.values(), strict=True):
        kill(tracked, **there)
    ended = recovery.recover(tracked.client, experiments=["1"], staging=workspace.staging)
    assert set(ended) == {tracked.id for tracked in started[:2]}
    assert [stored(tracked).info.status for tracked in started] == ["KILLED"] * 2 + ["RUNNING"] * 2


def test_a_machine_of_the_same_name_is_another_one(monkeypatch, tmp_path):
    there = Process.this()._replace(boot="another", started="1", machine="another")
    assert there.is_alive() is None


def test_recover_by_id_leaves_a_run_alone_whose_lock_is_held(begin, kill, stored, workspace):
    tracked = begin()
    left = kill(tracked, namespace="pid:[1]")  # in another container, where its number means nothing here
    with FileLock(left.folder / recovery.LOCK), pytest.raises(UserError, match=f"is at work on {tracked.id}"):
        runs.recover([tracked.id], workspace=workspace)
    assert stored(tracked).info.status == "RUNNING"


def test_recover_by_id_ends_a_run_of_a_machine_that_is_gone(begin, kill, stored, workspace, capsys):
    tracked = begin()
    kill(tracked, boot="another", machine="another")
    assert runs.recover([tracked.id], workspace=workspace) == 0
    assert stored(tracked).info.status == "KILLED"
    assert f"resume={tracked.id}" in capsys.readouterr().out


def test_sync_leaves_the_records_of_a_process_at_work_to_it(begin, kill, stored, workspace):
    tracked = begin()
    outbox = kill(tracked, {"tags": {"color": "green"}})
    with FileLock(outbox.folder / recovery.LOCK):
        assert runs.sync(workspace=workspace) == 0
    assert stored(tracked).data.tags["color"] == "blue"
    assert runs.sync(workspace=workspace) == 0
    assert stored(tracked).data.tags["color"] == "green"
    assert not outbox.folder.exists()


def test_a_checkout_that_was_moved_keeps_its_artifacts(begin, workspace, tmp_path):
    before = Workspace(tmp_path / "before")
    before.root.mkdir()
    shutil.copy(workspace.database, before.root)
    with begin(before) as tracked:
        tracked.log_text("notes/one.txt", "one")
    after = Workspace(tmp_path / "after")
    shutil.move(before.root, after.root)
    found = store.open_store(after)
    assert [file.path for file in found.list_artifacts(tracked.id, "notes")] == ["notes/one.txt"]
    assert found.get_run(begin(after).id).info.artifact_uri.startswith(after.root.as_uri())


@pytest.fixture
def outside(workspace, tmp_path):
    """The checkout; its runs are at ``app`` while a container is at work."""
    (tmp_path / "outside" / "mlruns").mkdir(parents=True)
    shutil.copy(workspace.database, tmp_path / "outside" / "mlruns")
    (tmp_path / "outside" / "mlflow.db").symlink_to("mlruns/mlflow.db")
    return Workspace(tmp_path / "outside")


@pytest.fixture
def enter(outside, monkeypatch):
    """Mounts the runs of the checkout in an image, or takes them back."""
    image = Workspace(outside.root.parent / "app")

    def move(*, inside: bool) -> Workspace:
        before, after = (outside, image) if inside else (image, outside)
        shutil.move(before.root, after.root)
        monkeypatch.setenv(store.MOUNTED, "1") if inside else monkeypatch.delenv(store.MOUNTED)
        return after

    return move


def names(client: MlflowClient, tracked: TrackedRun) -> list[str]:
    return [file.path for file in client.list_artifacts(tracked.id)]


def test_artifacts_of_an_image_are_seen_from_outside_without_another_command(begin, enter, monkeypatch):
    with begin(enter(inside=True)) as tracked:
        tracked.log_text("notes.txt", "from the image")
    outside = enter(inside=False)
    monkeypatch.chdir(outside.root)  # where people type `mlflow ui`
    assert names(MlflowClient("sqlite:///mlflow.db"), tracked) == ["notes.txt"]
    monkeypatch.chdir(ROOT)
    assert names(store.open_store(outside), tracked) == ["notes.txt"]


def test_an_image_adds_to_what_was_made_outside_and_leaves_it_there(begin, outside, enter):
    with begin(outside) as first:
        first.log_text("notes.txt", "from outside")
    image = enter(inside=True)
    with begin(image) as second:
        second.log_text("notes.txt", "from the image")
    found = store.find_run(first.id, image)
    assert found.download_artifact("notes.txt").read_text() == "from outside"
    enter(inside=False)
    client = MlflowClient(f"sqlite:///{outside.root}/mlflow.db")  # and nothing but MLflow itself
    assert names(client, first) == names(client, second) == ["notes.txt"]


def test_a_registered_model_is_found_in_an_image(begin, outside, enter):
    with begin(outside) as tracked:
        tracked.log_text("model/MLmodel", "a model")
    tracked.client.create_registered_model("gait")
    tracked.client.create_model_version("gait", f"{tracked.folder.as_uri()}/model", run_id=tracked.id)
    image = enter(inside=True)
    run_id = registered_run("models:/gait/1", image)
    found = store.find_run(run_id, image)
    assert found.download_artifact("model/MLmodel").read_text() == "a model"
