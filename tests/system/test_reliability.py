"""Runs that meet what breaks: killed processes, a server that goes, damaged files, a full disk.

Shorter forms of ``benchmarks/reliability.py``.
"""

import errno
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import LONG, ROOT, client, cut, history, newest, same_end
from lightning.pytorch import Callback

from foretrace.commands import cli
from foretrace.commands import train as train_command
from foretrace.errors import Interrupted, UserError
from foretrace.tracking import store
from foretrace.tracking.run import TrackedRun
from foretrace.workspace import Workspace

# A process that has imported everything is forked for each start: half a second in place of five.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["foretrace.commands.train", "hydra"])


@pytest.fixture
def train(composed, here):
    return lambda *overrides: train_command.run(
        composed(*overrides), overrides=list(overrides), workspace=Workspace(here), evaluate=False
    )


class Begun(Callback):
    """Says when training begins."""

    def __init__(self, event: object) -> None:
        self.event = event

    def on_train_start(self, trainer, module) -> None:
        self.event.set()


def checkpoints(root: Path) -> Path:
    return root / "mlruns" / "artifacts" / newest(root).info.run_id / "artifacts" / "checkpoints"


def apart(root: Path, overrides: list[str], begun: object) -> None:
    """Trains; in a process of its own. Says when it has begun to."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", overrides=overrides)
    options = {"workspace": Workspace(root), "callbacks": [Begun(begun)], "evaluate": False}
    train_command.run(composed, overrides=overrides, **options)


def kill(root: Path, overrides: list[str], *, after_s: float) -> bool:
    """Trains in another process and kills it; whether it was at work then."""
    begun = FORKS.Event()
    process = FORKS.Process(target=apart, args=(root, overrides, begun))
    process.start()
    begun.wait(60)
    time.sleep(after_s)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(train, here):
    long = [*LONG, "trainer.max_epochs=40", "trainer.checkpoint_minutes=1e-9"]
    train(*long)
    first = newest(here).info.run_id
    chance = random.Random(0)
    second, kills = "", 0
    for _ in range(4):
        kills += kill(here, [f"resume={second}"] if second else long, after_s=chance.uniform(0, 1))
        begun = {path.parents[1].name for path in here.glob("mlruns/artifacts/*/artifacts/config.yaml")}
        second = next(iter(begun - {first}), "")
    assert kills >= 2  # on a fast machine the training ends meanwhile
    if client(here).get_run(second).info.status != "FINISHED":
        train(f"resume={second}")
    assert same_end(here, first, second)
    assert "RUNNING" not in {run.info.status for run in client(here).search_runs(["1"])}
    assert list((here / "mlruns" / "staging").iterdir()) == []


def begin(root: Path) -> TrackedRun:
    return store.create_run(Workspace(root), experiment="test", name="one", tags={})


def die(root: Path) -> None:
    tracked = begin(root).__enter__()
    tracked.log_metrics({"loss": 1.0}, step=0)
    tracked._outbox.append({"metrics": [["loss", 2.0, 1, 1]]})  # and had no time to tell it
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_the_next_start_says_what_became_of_a_killed_process(tmp_path):
    process = FORKS.Process(target=die, args=(tmp_path,))
    process.start()
    process.join()
    dead = newest(tmp_path)
    assert dead.info.status == "RUNNING"
    begin(tmp_path)
    assert client(tmp_path).get_run(dead.info.run_id).info.status == "KILLED"
    assert history(tmp_path, dead.info.run_id) == {"loss": [(1, 2.0)]}


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back_misses_nothing(train, here, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from reliability_store import Server

    train(*LONG)
    expected = history(here, newest(here).info.run_id)
    server, step = Server(tmp_path / "server"), train_command.Forecaster.training_step

    def training_step(self, batch, batch_index):
        if self.global_step in (5, 10):
            server.stop() if self.global_step == 5 else server.start()
        return step(self, batch, batch_index)

    monkeypatch.setattr(train_command.Forecaster, "training_step", training_step)
    with server.up():
        train(*LONG, f"tracking.uri={server.uri}")
        found = store.open_store(Workspace(here, server.uri))
        [run] = found.search_runs(["1"])
        points = {name: found.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        told = {
            name: [(p.step, p.value) for p in found] for name, found in points.items() if name in expected
        }
    assert told == expected
    assert run.info.status == "FINISHED"
    said = capsys.readouterr().err
    assert ("does not answer" in said, "answers again" in said) == (True, True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_resumed(train, here, capsys):
    whole = train(*LONG)
    with pytest.MonkeyPatch.context() as patch:
        cut(patch, at_step=9)
        with pytest.raises(Interrupted):
            train(*LONG)
    damaged = checkpoints(here) / "last.ckpt"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.unlink()  # the best may be the same file
    damaged.write_bytes(content)
    assert train(f"resume={newest(here).info.run_id}") == whole
    said = capsys.readouterr().out
    assert "last.ckpt: no checkpoint that can be read" in said
    assert "resume   after 8 batches" in said


def test_a_run_at_work_is_not_resumed(train, here):
    train(*LONG, "trainer.max_epochs=1")
    found = newest(here)
    client(here).update_run(found.info.run_id, status="RUNNING")
    with pytest.raises(UserError, match=rf"process {os.getpid()} on .* is at work on"):
        train(f"resume={found.info.run_id}", "trainer.max_epochs=2")
    # Of a process in another container only the lock is seen.
    client(here).set_tag(found.info.run_id, "process.namespace", "pid:[1]")
    folder = here / "mlruns" / "staging" / found.info.run_id
    folder.mkdir(parents=True)
    with (
        FileLock(folder / "lock"),
        pytest.raises(UserError, match="is at work on"),
    ):
        train(f"resume={found.info.run_id}", "trainer.max_epochs=2")


def test_a_full_disk_fails_the_run_and_takes_no_checkpoint_away(train, here, monkeypatch):
    whole = train(*LONG)
    first = newest(here).info.run_id
    sync, times = os.fsync, []

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == ".last.ckpt.part":
            times.append(descriptor)
            if len(times) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=r"last\.ckpt could not be written \(No space left"):
            train(*LONG)
    second = newest(here)
    assert second.info.status == "FAILED"
    assert {path.name for path in checkpoints(here).iterdir()} == {"previous.ckpt", "best.ckpt"}
    assert train(f"resume={second.info.run_id}") == whole
    assert same_end(here, first, second.info.run_id)


def test_a_full_disk_is_one_line_to_its_user(capsys):
    with pytest.raises(SystemExit, match="1"), cli.input_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "mlruns/records.jsonl")
    said = capsys.readouterr().err
    assert said.startswith(
        "error: No space left on device (mlruns/records.jsonl). Free some space; then continue"
    )
    assert said.count("\n") == 1


def test_a_run_that_ended_before_its_settings_were_recorded_cannot_be_resumed(train, here):
    train(*LONG, "trainer.max_epochs=1")
    (checkpoints(here).parent / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"resume: run .* has no recorded settings"):
        train(f"resume={newest(here).info.run_id}")
