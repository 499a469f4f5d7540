"""All runs at a glance, and what sets them right."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from requests import RequestException

from foretrace.errors import InputError, sanitize
from foretrace.tracking import recovery, store
from foretrace.tracking.process import Process
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
HEADING = (
    f"{'run':<33}{'status':<10}{'progress':<16}{'started':>12}{'took':>10}{'val/mse':>10}{'skill':>8}  name"
)


def show(number: int) -> int:
    """Prints the latest runs, newest first; returns the exit status."""
    client, experiments = _open()
    try:
        found = client.search_runs(experiments, max_results=number, order_by=["attributes.start_time DESC"])
    except store.NO_ANSWER as error:
        raise store.silent(error, key=VARIABLE) from error
    print(HEADING)
    for run in found:
        print(line(run, now_ms=int(time.time() * 1000)))
    gone = [run.info.run_id for run in found if _is_gone(run)]
    if gone:
        print(f"{len(gone)} marked RUNNING, but dead: python src/runs.py mend")
    waiting = _waiting()
    if waiting:
        print(f"{len(waiting)} with records that wait on this disk: python src/runs.py deliver")
    return 0


def line(run: Run, *, now_ms: int) -> str:
    """One run in one line."""
    info, metrics = run.info, run.data.metrics
    began = info.start_time or now_ms
    took = (info.end_time or now_ms) - began
    figures = "".join(
        f"{metrics[name]:>{width}.{digits}g}" if name in metrics else f"{'':>{width}}"
        for name, width, digits in (("val/mse", 10, 4), ("skill", 8, 3))
    )
    status = "dead?" if _is_gone(run) else info.status
    progress = sanitize(run.data.tags.get("progress", ""), longest=15)
    return (
        f"{info.run_id:<33}{status:<10}{progress:<16}{_span(now_ms - began) + ' ago':>12}"
        f"{_span(took):>10}{figures}  {sanitize(str(info.run_name))}"
    )


def mend(run_ids: Sequence[str]) -> int:
    """Marks runs KILLED: those whose process is gone for certain, and those named.

    Returns:
        The exit status.

    Raises:
        InputError: If a run that is named is at work on this host, or there is none of that name.
    """
    client, experiments = _open()  # which also points the database of a moved checkout to its artifacts
    dead = recovery.mend(client, experiments=experiments, staging=Workspace.default().staging)
    for run_id in run_ids:
        _, run = store.find_run(run_id, workspace=Workspace.default(), uri=_uri())
        process = Process.of_tags(run.data.tags)
        if process is not None and process.is_at_work():
            raise InputError(
                "run", expected="a dead run", received=f"{run_id}, at work in process {process.pid}"
            )
        if run.info.status == "RUNNING":
            client.set_terminated(run_id, status="KILLED")
            dead.append(run_id)
    print(*(f"{run_id} is marked KILLED; go on with it: python src/train.py resume={run_id}" for run_id in dead),
          sep="\n", end="\n" if dead else "")  # fmt: skip
    print(f"{len(dead)} of dead processes marked; all others are as they say")
    return 0


def deliver() -> int:
    """Tells the store what processes of this checkout could not; returns the exit status."""
    client, _ = _open()
    waiting = _waiting()
    told = [_deliver(client, folder) for folder in waiting]
    if not waiting:
        print("nothing waits")
    return 0 if all(told) else 1


def _deliver(client: MlflowClient, folder: Path) -> bool:
    try:
        with FileLock(folder / recovery.LOCK, timeout=0):
            number = recovery.sync_outbox(client, client.get_run(folder.name), folder)
            recovery.clear(folder)
    except Timeout:  # it was gone on with this moment: its process delivers
        return True
    except (MlflowException, RequestException, OSError) as error:
        print(f"{folder.name}: not delivered: {' '.join(str(error).split())[:200]}")
        return False
    print(f"{folder.name}: {number} records delivered, {client.get_run(folder.name).info.status}")
    return True


def _open() -> tuple[MlflowClient, list[str]]:
    filter_library_logs()
    if _uri() is None and not Workspace.default().database.exists():
        remedy = "Train first: python src/train.py"
        raise InputError("runs", expected="runs in this checkout", received="none", remedy=remedy)
    try:
        client = store.open_store(workspace=Workspace.default(), uri=_uri())
        return client, [experiment.experiment_id for experiment in client.search_experiments()]
    except store.NO_ANSWER as error:
        raise store.silent(error, key=VARIABLE) from error


def _uri() -> str | None:
    return os.environ.get(VARIABLE)


def _waiting() -> list[Path]:
    """Folders of runs with undelivered records whose process has ended."""
    return [
        f
        for f in sorted(Workspace.default().staging.glob("*"))
        if (f / "records.jsonl").exists() and not _is_held(f)
    ]


def _is_held(folder: Path) -> bool:
    """Whether a process is at work on the run."""
    try:
        with FileLock(folder / recovery.LOCK, timeout=0):
            return False
    except Timeout:
        return True


def _is_gone(run: Run) -> bool:
    process = Process.of_tags(run.data.tags)
    return run.info.status == "RUNNING" and process is not None and process.is_gone()


def _span(ms: float) -> str:
    """A duration in its largest unit.

    >>> _span(61_000), _span(5_400_000), _span(900)
    ('1.0 min', '1.5 h', '0.9 s')
    """
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.1f} s"
