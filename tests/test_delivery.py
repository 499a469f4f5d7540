"""What a run was told reaches the store, whatever breaks in between."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException

from foretrace.errors import Interrupted
from foretrace.tracking import outbox as journals
from foretrace.tracking import process, recovery
from foretrace.tracking.outbox import REFUSED, Outbox
from foretrace.tracking.process import Process
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.store import create_run
from foretrace.training.callbacks.checkpoints import Checkpoints
from foretrace.training.group import Group
from foretrace.training.place import Place
from foretrace.workspace import Workspace

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
GONE = Process.this()._replace(started="1")


@pytest.fixture
def begin(tmp_path):
    def begin_one() -> TrackedRun:
        client, run = create_run(
            workspace=Workspace(tmp_path), uri=None, experiment="test", name="one", tags={}
        )
        return TrackedRun(client, run, staging=tmp_path / "mlruns" / "staging")

    return begin_one


def killed(tracked: TrackedRun, *records: dict) -> Outbox:
    """Makes of a run what SIGKILL leaves of it."""
    for key, value in GONE.tags().items():
        tracked.client.set_tag(tracked.id, key, value)
    left = Outbox(tracked._waiting)
    left.append(records)
    (left.folder / recovery.LOCK).touch()
    return left


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def state(tracked: TrackedRun) -> object:
    return tracked.client.get_run(tracked.id)


def test_a_line_that_the_disk_had_no_room_for_is_not_followed_by_another(tmp_path, monkeypatch):
    journal = Outbox(tmp_path)
    journal.append([{"tags": {"n": "1"}}])

    def half(file, content):
        file.write(content[: len(content) // 2])
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(journals, "_write", half)
        with pytest.raises(OSError, match="No space"):
            journal.append([{"tags": {"n": "2"}}])
    journal.append([{"tags": {"n": "3"}}])
    assert [record["tags"]["n"] for record, _ in journal.pending()] == ["1", "3"]


def test_what_the_store_will_never_take_blocks_nothing(begin, capsys):
    dead = begin()
    points = [{"metrics": [[name, 1.0, 1, 0]]} for name in ("good", "not = legal", "better")]
    left = killed(dead, points[0], points[1], points[2])
    with left._records.open("a") as file:
        file.write("neither is this\n")
    begin()
    assert state(dead).info.status == "KILLED"
    assert set(state(dead).data.metrics) == {"good", "better"}
    assert len((left.folder / REFUSED).read_text().splitlines()) == 2
    assert capsys.readouterr().err.count("was refused and set aside") == 2


def test_what_a_dead_process_left_of_a_deleted_run_does_not_stop_the_next(begin):
    dead = begin()
    killed(dead, {"tags": {"colour": "blue"}})
    dead.client.delete_run(dead.id)
    with begin() as tracked:
        tracked.log_metrics({"loss": 1.0}, step=0)
    assert state(tracked).info.status == "FINISHED"


def test_a_run_that_is_deleted_while_it_trains_says_so_and_leaves_the_way_free(begin):
    def train() -> None:
        with tracked:
            tracked.client.delete_run(tracked.id)
            tracked.set_tags({"colour": "blue"})
            tracked._delivery.wait(20)
            tracked.set_tags({"colour": "red"})

    tracked = begin()
    with pytest.raises(MlflowException, match="deleted"):
        train()
    assert not (tracked._waiting / recovery.LOCK).exists()
    assert state(begin()).info.status == "RUNNING"


def test_a_second_signal_ends_the_wait_for_a_store_that_is_away(begin, monkeypatch, capsys):
    def end() -> None:
        with tracked:
            monkeypatch.setattr(tracked._delivery, "_tell", raising(ConnectionError()))
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            raise Interrupted(signal.SIGTERM)

    tracked = begin()
    began = time.monotonic()
    with pytest.raises(Interrupted, match="SIGTERM"):
        end()
    assert time.monotonic() - began < 10
    assert "the rest waits in" in capsys.readouterr().err
    recovery.sync_outbox(tracked.client, tracked._run, tracked._waiting)
    assert state(tracked).info.status == "KILLED"
    assert state(tracked).data.tags["error"] == "Interrupted: SIGTERM"


def test_a_full_disk_leaves_the_run_failed(begin, monkeypatch, capsys):
    def train() -> None:
        with tracked:
            monkeypatch.setattr(journals, "_write", raising(FULL))
            tracked.set_tags({"colour": "blue"})

    tracked = begin()
    with pytest.raises(OSError, match="No space"):
        train()
    assert state(tracked).info.status == "FAILED"
    assert "could not be written" in capsys.readouterr().err


def test_a_machine_of_the_same_name_is_another_one(monkeypatch, tmp_path):
    there = Process.this()._replace(boot="another", started="1")
    assert there.is_gone() == bool(there.machine)  # this machine, started anew
    (tmp_path / "machine-id").write_text("0123456789abcdef\n")
    monkeypatch.setattr(process, "MACHINE_ID", tmp_path / "machine-id")
    assert not there.is_gone()


def test_a_database_that_has_no_tables_yet_gets_them(begin, tmp_path):
    (tmp_path / "mlflow.db").touch()
    assert state(begin()).info.status == "RUNNING"


def test_nobody_delivers_for_a_process_at_work(begin, monkeypatch, tmp_path, capsys):
    from foretrace.commands import runs

    tracked = begin()
    monkeypatch.setenv("FORETRACE_HOME", str(tmp_path))
    journal = killed(tracked, {"tags": {"colour": "blue"}})
    with FileLock(journal.folder / recovery.LOCK):
        assert runs._deliver(tracked.client, journal.folder)
        assert journal.exists
    assert runs._deliver(tracked.client, journal.folder)
    assert state(tracked).data.tags["colour"] == "blue"
    assert not journal.folder.exists()


def test_names_that_are_no_text_are_recorded_as_far_as_they_are(begin):
    with begin() as tracked:
        tracked.set_tags({"file": os.fsdecode(b"caf\xe9.csv")})
    assert state(tracked).data.tags["file"] == "caf?.csv"


@pytest.mark.parametrize(("scores", "best"), [((float("nan"), 2.0, 3.0), 1), ((2.0, float("nan"), 3.0), 0)])
def test_an_epoch_without_a_number_is_never_the_best(tmp_path, monkeypatch, scores, best):
    run = SimpleNamespace(folder=tmp_path, log_metrics=lambda *_, **__: None)
    checkpoints = Checkpoints(run, Group(Place()), monitor="val/mse", every_minutes=1)
    monkeypatch.setattr(checkpoints, "_save", lambda *_, **__: None)
    for epoch, score in enumerate(scores):
        trainer = SimpleNamespace(callback_metrics={"val/mse": score}, current_epoch=epoch, max_epochs=3)
        checkpoints.on_validation_end(trainer, None)
    assert checkpoints.best_epoch == best
