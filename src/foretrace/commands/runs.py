"""All runs at a glance, in the terminal and in the browser, and what sets them right."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from requests import RequestException

from foretrace.errors import Interrupted, UserError, sanitize
from foretrace.tracking import recovery, store
from foretrace.tracking.outbox import RECORDS
from foretrace.tracking.redaction import redact
from foretrace.tracking.stored import LOCAL_UI, StoredRun, store_access, ui_address
from foretrace.workspace import Workspace

ROW = "{:<33}{:<10}{:<16}{:>12}{:>10}{:>11}{:>11}  {}"


def show(number: int, *, workspace: Workspace) -> int:
    """Print the latest runs, newest first; return the exit status."""
    client, found = store.latest_runs(workspace, limit=number)
    print(ROW.format("run", "status", "progress", "started", "took", "val/mse", "skill", "name"))
    for run in found:
        print(line(run, now_ms=int(time.time() * 1000)))
    if found:
        print(f"as a table: python src/runs.py ui, or mlflow ui and then {_table_address(client, found[0])}")
    if dead := [run for run in found if recovery.is_dead(run)]:
        print(f"{len(dead)} marked RUNNING, but dead: python src/runs.py recover")
    if waiting := _waiting(workspace):
        print(f"{len(waiting)} with records that wait on this disk: python src/runs.py sync")
    return 0


def ui(*, workspace: Workspace, port: int) -> int:
    """Serve MLflow's pages until interrupted and open them at the table of the latest run's experiment.

    MLflow itself opens on its GenAI page, which shows no run. A tracking server serves its pages already.

    Raises:
        UserError: If there is no run yet, or another program serves at the port.
    """
    client, latest = store.latest_runs(workspace, limit=1)
    if not latest:
        raise UserError(f"there is no run in {workspace.root} yet", hint="Train first: python src/train.py")
    address = _table_address(client, latest[0])
    if not address.startswith(LOCAL_UI):
        print(address)
        webbrowser.open(address)
        return 0
    address = address.replace(LOCAL_UI, f"http://127.0.0.1:{port}", 1)
    if _answers(port):
        raise UserError(f"--port: another program serves at {port}", hint="Choose another: --port 5001.")
    where = ["--host=127.0.0.1", f"--port={port}", f"--backend-store-uri={client.tracking_uri}"]
    # Its job runners, a dozen processes, are for what MLflow does with language models.
    alone = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen([sys.executable, "-m", "mlflow", "ui", "--workers=1", *where], env=alone) as server:  # noqa: S603
        try:
            while server.poll() is None and not _answers(port):
                time.sleep(0.2)
            print(f"{address}  (Ctrl+C ends it)", flush=True)
            webbrowser.open(address)
            return server.wait()
        except Interrupted:  # Ctrl+C reaches the server, too; SIGTERM may not
            server.terminate()
            raise


def recover(run_ids: Sequence[str], *, workspace: Workspace) -> int:
    """Mark runs KILLED: those whose process is dead for certain, and those named. Return the exit status.

    Raises:
        UserError: If a run that is named is at work, in whatever container, or there is none of that name.
    """
    client = store.open_store(workspace)
    with store_access():
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    dead = recovery.recover(client, experiments=experiments, staging=workspace.staging)
    for run_id in run_ids:
        run = store.find_run(run_id, workspace)
        if process := run.at_work():
            raise UserError(f"run: {process} is at work on {run_id}", hint="End that process first.")
        if run.info.status == "RUNNING":
            client.set_terminated(run_id, status="KILLED")
            dead.append(run_id)
    for run_id in dead:
        print(f"{run_id} is marked KILLED; to resume it: python src/train.py resume={run_id}")
    print(f"{len(dead)} of dead processes marked; all others are as they say")
    return 0


def sync(*, workspace: Workspace) -> int:
    """Send the store what processes of this checkout could not; return the exit status."""
    client, waiting, status = store.open_store(workspace), _waiting(workspace), 0
    for folder in waiting:
        try:
            with FileLock(folder / recovery.LOCK, timeout=0):
                number = StoredRun(client, client.get_run(folder.name), staging=folder.parent).sync()
                recovery.clear(folder)
                print(f"{folder.name}: {number} records sent, {client.get_run(folder.name).info.status}")
        except Timeout:  # it was resumed this moment: its process sends them
            continue
        except (MlflowException, RequestException, OSError) as error:
            print(f"{folder.name}: not sent: {sanitize(redact(str(error)))}")
            status = 1
    if not waiting:
        print("nothing waits")
    return status


def _waiting(workspace: Workspace) -> list[Path]:
    """Return the folders of runs with unsent records whose process has ended."""
    folders = sorted(workspace.staging.glob("*"))
    return [folder for folder in folders if (folder / RECORDS).exists() and not recovery.is_locked(folder)]


def line(run: Run, *, now_ms: int) -> str:
    """Return a run as a line of the list."""
    info, metrics, tags = run.info, run.data.metrics, run.data.tags
    began = info.start_time or now_ms
    from_ancestor = f" from {tags['initialized_from'][:8]}" if "initialized_from" in tags else ""
    return ROW.format(
        info.run_id,
        "dead?" if recovery.is_dead(run) else info.status,
        sanitize(tags.get("progress", ""), longest=15),
        f"{_span(now_ms - began)} ago",
        _span((info.end_time or now_ms) - began),
        f"{metrics['val/mse']:.4g}" if "val/mse" in metrics else "",
        f"{metrics['skill']:.3g}" if "skill" in metrics else "",
        sanitize(f"{info.run_name}{from_ancestor}"),
    )


def _span(ms: float) -> str:
    """Return a duration in its largest unit.

    >>> _span(61_000), _span(5_400_000), _span(900)
    ('1.0 min', '1.5 h', '0.9 s')
    """
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.1f} s"


def _table_address(client: MlflowClient, run: Run) -> str:
    """Return the address of the table of a run's experiment in a browser, with useful columns."""
    experiment = client.get_experiment(run.info.experiment_id)
    view = "&viewStateShareKey=foretrace" if store.VIEW_TAG in experiment.tags else ""
    return ui_address(client, f"experiments/{experiment.experiment_id}/runs") + view


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
