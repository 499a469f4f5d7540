"""Setting right what nobody was left to set right: runs of dead processes, and paths of a moved checkout."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from foretrace.tracking.outbox import Outbox
from foretrace.tracking.process import Process
from foretrace.tracking.writer import RELATIVE, StoreWriter

LOCK = "lock"
RESERVE = "reserve"


def mend(client: MlflowClient, *, experiments: Sequence[str], staging: Path) -> list[str]:
    """Marks runs of dead processes KILLED, after delivering what they left behind.

    Args:
        client: Of the store.
        experiments: Ids of those in which to look for runs of this host that left nothing behind.
        staging: Where processes of this checkout keep what they have not delivered, by run.

    Returns:
        Ids of the runs that were marked.
    """
    left = [folder.name for folder in sorted(staging.glob("*")) if (folder / LOCK).exists()]
    dead = [run_id for run_id in left if _bury(client, staging / run_id)]
    for run in client.search_runs(
        list(experiments), "attributes.status = 'RUNNING'"
    ):  # also those that died before they had a folder
        process = Process.of_tags(run.data.tags)
        if process is not None and process.is_gone() and not (staging / run.info.run_id).exists():
            client.set_terminated(run.info.run_id, status="KILLED")
            dead.append(run.info.run_id)
    return dead


def _bury(client: MlflowClient, folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, timeout=0):
            run = _find(client, folder.name)
            process = Process.of_tags(run.data.tags) if run else None
            if run is None or (process is not None and not _has_ended(process)):
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


def _has_ended(process: Process) -> bool:
    """Of a process whose lock is free."""
    return process.is_gone() or (process.sees_our_locks() and not process.is_at_work())


def sync_outbox(client: MlflowClient, run: Run, folder: Path) -> int:
    """Tells the store what waits in a run's folder; returns how many records that were.

    What the store will never take is set aside there. Only for whoever holds the folder's lock.

    Raises:
        MlflowException: If the store does not answer.
    """
    journal = Outbox(folder)
    number = StoreWriter(client, run, folder / "artifacts").deliver(journal)
    journal.remove()
    return number


def clear(folder: Path) -> None:
    """Removes what a run at work keeps in its folder; by whoever holds its lock."""
    for name in (RESERVE, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # artifacts of a store elsewhere, or what it refused
        folder.rmdir()


def _find(client: MlflowClient, run_id: str) -> Run | None:
    """None if it is a run of another store."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _is_elsewhere(location: str, place: Path) -> bool:
    """Whether a stored location is that of the same folder in a checkout at another path."""
    path = Path(unquote(urlparse(location).path))
    return path != place and path.parts[-2:] == place.parts[-2:]


def relocate_artifacts(database: Path, artifacts: Path) -> int:
    """Points a checkout's database to the checkout's own artifacts, wherever it was moved or copied.

    MLflow stores absolute paths; in an image, `unfix_artifacts` makes them relative. What is not in the checkout's
    folder is left alone.

    Args:
        database: The SQLite file.
        artifacts: The folder that has one folder per run.

    Returns:
        How many runs were changed.
    """
    home = artifacts.as_uri()
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall():
            return 0  # new, and being made by somebody
        rows = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        moved = [(home, key) for key, location in rows if _is_elsewhere(location, artifacts)]
        if not moved:
            return 0
        connection.executemany("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", moved)
        runs = connection.execute("SELECT run_uuid, artifact_uri FROM runs").fetchall()
        found = [
            (f"{home}/{key}/artifacts", key)
            for key, location in runs
            if _is_elsewhere(location, artifacts / key / "artifacts") and (artifacts / key).is_dir()
        ]
        connection.executemany("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", found)
    return len(found)


def unfix_artifacts(database: Path, artifacts: Path) -> None:
    """Locates artifacts by their path within the checkout: in an image, which has ``mlruns`` at a place of its own.

    MLflow takes such locations for relative to the working directory, which is the checkout for `mlflow ui`. Those of
    experiments that were made outside are right there, and stay.

    Args:
        database: The SQLite file.
        artifacts: The folder that has one folder per run.
    """
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
            (RELATIVE, artifacts.as_uri()),
        )
