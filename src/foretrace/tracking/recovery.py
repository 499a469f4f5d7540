"""Runs that no process ends any more: marked KILLED, after what they left on disk was sent."""

from collections.abc import Sequence
from contextlib import suppress
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
        process = Process.of_tags(run.data.tags)
        if process is not None and process.is_gone() and not (staging / run.info.run_id).exists():
            client.set_terminated(run.info.run_id, status="KILLED")
            dead.append(run.info.run_id)
    return dead


def _recover_one(client: MlflowClient, folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, timeout=0):
            run = _find(client, folder.name)
            process = Process.of_tags(run.data.tags) if run else None
            free_means_dead = process is None or process.is_gone() or process.sees_our_locks()
            if run is None or not free_means_dead or (process and process.is_at_work()):
                return False
            sync_outbox(client, run, folder)
            info = client.get_run(run.info.run_id).info
            was_running = bool(info.status == "RUNNING" and info.lifecycle_stage == LifecycleStage.ACTIVE)
            if was_running:
                client.set_terminated(run.info.run_id, status="KILLED")
            clear(folder)
            return was_running
    except Timeout:
        return False


def is_locked(folder: Path) -> bool:
    """Return whether a process is at work on the run that a folder belongs to, in whatever container."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def sync_outbox(client: MlflowClient, run: Run, folder: Path) -> int:
    """Send what waits in a run's folder; return how many records that were.

    What the store will never take is quarantined there. Only for whoever holds the folder's lock.

    Raises:
        MlflowException: If the store does not answer.
    """
    outbox = Outbox(folder)
    is_local = local_path(str(run.info.artifact_uri), mlruns=folder.parents[1]) is not None
    writer = StoreWriter(client, str(run.info.run_id), uploads=None if is_local else folder / "artifacts")
    number = send(outbox, writer.write)
    outbox.remove()
    return number


def clear(folder: Path) -> None:
    """Remove what a run at work keeps in its folder; by whoever holds its lock."""
    for name in (RESERVE, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # artifacts of a store elsewhere, or what it refused
        folder.rmdir()


def _find(client: MlflowClient, run_id: str) -> Run | None:
    """Return a run; None if it is one of another store."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
