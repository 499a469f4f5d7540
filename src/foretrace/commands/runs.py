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

from foretrace.errors import UserError, sanitize
from foretrace.tracking import recovery, store
from foretrace.tracking.outbox import RECORDS
from foretrace.tracking.stored import LOCAL_UI, ui_address
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
HEADING = (
    f"{'run':<33}{'status':<10}{'progress':<16}{'started':>12}{'took':>10}{'val/mse':>11}{'skill':>11}  name"
)


def show(number: int, *, workspace: Workspace) -> int:
    """Print the latest runs, newest first; return the exit status."""
    client, experiments = _open(workspace)
    try:
        found = client.search_runs(experiments, max_results=number, order_by=["attributes.start_time DESC"])
        table = table_address(client, found[0].info.experiment_id) if found else None
    except store.NO_ANSWER as error:
        raise store.unavailable(error, key=VARIABLE) from error
    print(HEADING)
    for run in found:
        print(line(run, now_ms=int(time.time() * 1000)))
    if table:
        print(f"as a table: python src/runs.py ui, or mlflow ui and then {table}")
    if dead := [run for run in found if recovery.is_dead(run)]:
        print(f"{len(dead)} marked RUNNING, but dead: python src/runs.py recover")
    if waiting := _waiting(workspace):
        print(f"{len(waiting)} with records that wait on this disk: python src/runs.py sync")
    return 0


def line(run: Run, *, now_ms: int) -> str:
    """Return one run in one line."""
    info, metrics = run.info, run.data.metrics
    began = info.start_time or now_ms
    took = (info.end_time or now_ms) - began
    figures = "".join(
        f"{metrics[name]:>{width}.{digits}g}" if name in metrics else f"{'':>{width}}"
        for name, width, digits in (("val/mse", 11, 4), ("skill", 11, 3))
    )
    status = "dead?" if recovery.is_dead(run) else info.status
    progress = sanitize(run.data.tags.get("progress", ""), longest=15)
    ancestor = run.data.tags.get("initialized_from")
    name = f"{info.run_name} from {ancestor[:8]}" if ancestor else str(info.run_name)
    return (
        f"{info.run_id:<33}{status:<10}{progress:<16}{_span(now_ms - began) + ' ago':>12}"
        f"{_span(took):>10}{figures}  {sanitize(name)}"
    )


def table_address(client: MlflowClient, experiment_id: str) -> str:
    """Return the address of an experiment's table of runs in a browser, with useful columns."""
    view = (
        "&viewStateShareKey=foretrace" if store.VIEW_TAG in client.get_experiment(experiment_id).tags else ""
    )
    return ui_address(client, f"experiments/{experiment_id}/runs") + view


def ui(*, workspace: Workspace, port: int) -> int:
    """Serve MLflow's pages until interrupted and open them at the table of the latest run's experiment.

    MLflow itself opens on its GenAI page, which shows no run. A tracking server serves its pages already.

    Raises:
        UserError: If there is no run yet, or another program serves at the port.
    """
    client, experiments = _open(workspace)
    latest = client.search_runs(experiments, max_results=1, order_by=["attributes.start_time DESC"])
    if not latest:
        raise UserError(f"there is no run in {workspace.root} yet", hint="Train first: python src/train.py")
    address = table_address(client, latest[0].info.experiment_id)
    if address.startswith(LOCAL_UI):
        address = address.replace(LOCAL_UI, f"http://127.0.0.1:{port}", 1)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError as error:
                hint = "Choose another: --port 5001."
                raise UserError(f"--port: {port} cannot be served at: {error.strerror}", hint=hint) from error
        where = [
            "--backend-store-uri",
            client.tracking_uri,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        # Its job runners, a dozen processes, are for what MLflow does with language models.
        alone = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with subprocess.Popen([sys.executable, "-m", "mlflow", "ui", *where], env=alone) as server:  # noqa: S603
            while server.poll() is None and not _answers(port):
                time.sleep(0.2)
            print(f"{address}  (Ctrl+C ends it)", flush=True)
            webbrowser.open(address)
            return server.wait()
    print(address)
    webbrowser.open(address)
    return 0


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def recover(run_ids: Sequence[str], *, workspace: Workspace) -> int:
    """Mark runs KILLED: those whose process is dead for certain, and those named. Return the exit status.

    Raises:
        UserError: If a run that is named is at work, in whatever container, or there is none of that name.
    """
    client, experiments = _open(workspace)
    dead = recovery.recover(client, experiments=experiments, staging=workspace.staging)
    for run_id in run_ids:
        _, run = store.find_run(run_id, workspace=workspace, uri=_uri())
        if process := recovery.at_work(run, staging=workspace.staging):
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
    client, _ = _open(workspace)
    waiting = _waiting(workspace)
    sent = [_sync(client, folder) for folder in waiting]
    if not waiting:
        print("nothing waits")
    return 0 if all(sent) else 1


def _sync(client: MlflowClient, folder: Path) -> bool:
    try:
        with FileLock(folder / recovery.LOCK, timeout=0):
            number = recovery.sync_outbox(client, client.get_run(folder.name), folder)
            recovery.clear(folder)
            print(f"{folder.name}: {number} records sent, {client.get_run(folder.name).info.status}")
    except Timeout:  # it was resumed this moment: its process sends them
        pass
    except (MlflowException, RequestException, OSError) as error:
        print(f"{folder.name}: not sent: {' '.join(str(error).split())[:200]}")
        return False
    return True


def _open(workspace: Workspace) -> tuple[MlflowClient, list[str]]:
    filter_library_logs()
    try:
        client = store.open_store(workspace=workspace, uri=_uri())
        return client, [experiment.experiment_id for experiment in client.search_experiments()]
    except store.NO_ANSWER as error:
        raise store.unavailable(error, key=VARIABLE) from error


def _uri() -> str | None:
    return os.environ.get(VARIABLE)


def _waiting(workspace: Workspace) -> list[Path]:
    """Return the folders of runs with unsent records whose process has ended."""
    folders = sorted(workspace.staging.glob("*"))
    return [folder for folder in folders if (folder / RECORDS).exists() and not recovery.is_locked(folder)]


def _span(ms: float) -> str:
    """Return a duration in its largest unit.

    >>> _span(61_000), _span(5_400_000), _span(900)
    ('1.0 min', '1.5 h', '0.9 s')
    """
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.1f} s"
