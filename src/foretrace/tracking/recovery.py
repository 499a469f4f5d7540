"""Runs that no process ends any more: marked KILLED, after what they left on disk was sent."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from foretrace.tracking.outbox import Outbox
from foretrace.tracking.process import Process
from foretrace.tracking.sender import StoreWriter, send
from foretrace.tracking.stored import local_path

LOCK, RESERVE = "lock", "reserve"


def recover(client: MlflowClient, *, experiments: Sequence[str], staging: Path) -> list[str]:
    """Mark runs of dead processes KILLED, after sending what they left behind; return their ids.

    Args:
        client: Client of the store.
        experiments: Ids of those in which to look for runs of this host that left nothing behind.
        staging: Folder in which the checkout's runs keep what they have not sent, a folder for each.
    """
    left = [folder.name for folder in sorted(staging.glob("*")) if (folder / LOCK).exists()]
    dead = [run_id for run_id in left if _recover_one(client, staging / run_id)]
    # Also those that died before they had a folder:
    for run in client.search_runs(list(experiments), "attributes.status = 'RUNNING'"):
        if is_dead(run) and not (staging / run.info.run_id).exists():
            client.set_terminated(run.info.run_id, status="KILLED")
            dead.append(run.info.run_id)
    return dead


def is_dead(run: Run) -> bool:
    """Return whether a run is RUNNING in a process that has ended for certain."""
    process = Process.of_tags(run.data.tags)
    return run.info.status == "RUNNING" and process is not None and process.is_alive() is False


def at_work(run: Run, *, staging: Path) -> str | None:
    """Return which process is at work on a run, in whatever container; None if none is.

    Args:
        run: The run.
        staging: Folder in which the checkout's runs keep what they have not sent, a folder for each.
    """
    process = Process.of_tags(run.data.tags)
    is_alive = run.info.status == "RUNNING" and process is not None and process.is_alive()
    if not is_alive and not is_locked(staging / run.info.run_id):
        return None
    return f"process {process.pid} on {process.host}" if process else "another process"


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of the run that a folder belongs to."""
    try:
        with FileLock(folder / LOCK, timeout=0) if (folder / LOCK).exists() else nullcontext():
            return False
    except Timeout:
        return True


def _recover_one(client: MlflowClient, folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, timeout=0):
            run = client.get_run(folder.name)
            process = Process.of_tags(run.data.tags)
            alive = process.is_alive() if process else False
            if alive or (alive is None and process and not process.sees_our_locks()):
                return False
            sync_outbox(client, run, folder)
            info = client.get_run(folder.name).info
            was_running = bool(info.status == "RUNNING" and info.lifecycle_stage == LifecycleStage.ACTIVE)
            if was_running:
                client.set_terminated(folder.name, status="KILLED")
            clear(folder)
            return was_running
    except Timeout:
        return False
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False  # a run of another store


def sync_outbox(client: MlflowClient, run: Run, folder: Path) -> int:
    """Send what waits in a run's folder; return how many records that were.

    What the store will never take is quarantined there. Only for whoever holds the folder's lock.

    Raises:
        MlflowException: If the store does not answer.
    """
    outbox = Outbox(folder)
    is_local = local_path(str(run.info.artifact_uri), mlruns=folder.parents[1]) is not None
    writer = StoreWriter(client, str(run.info.run_id), uploads=None if is_local else folder / "artifacts")
    number, _ = send(outbox, writer.write)
    outbox.remove()
    return number


def clear(folder: Path) -> None:
    """Remove what a run at work keeps in its folder; by whoever holds its lock."""
    for name in (RESERVE, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # artifacts of a store elsewhere, or what it refused
        folder.rmdir()
