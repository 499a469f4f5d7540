"""What a person waits for who looks at many runs: their list in the terminal, their table and charts in a browser."""

import importlib.util
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mlflow.entities import Metric, Param
from speed_rows import ROOT, Row, folder

from foretrace.tracking import store
from foretrace.workspace import Workspace

COPIED = ("metrics", "latest_metrics", "params", "tags")


def rows(*, quick: bool) -> Iterator[Row]:
    """Time the list of 1,000 runs, and the pages of 50 runs with 10,000 batches each, with 60 and with 190 metrics."""
    with folder() as root:
        number = 20 if quick else 1000
        _fill(root, runs=number, metrics=60, batches=10)
        times = [_seconds(root, "runs.py") - _seconds(root, "runs.py", "--help") for _ in range(3)]
        yield Row(f"the list of {number:,} runs, 20 shown, beyond an answer to --help", "", times, "s")
        bare = "import foretrace.commands.runs, mlflow.store.tracking.sqlalchemy_store"
        imports = [_seconds(root, "-c", bare) for _ in range(3)]
        whole = [_seconds(root, "runs.py") for _ in range(3)]
        beyond = [a - b for a, b in zip(whole, imports, strict=True)]
        yield Row(f"the list of {number:,} runs, 20 shown, beyond imports", "< 2 s", beyond, "s")
    pages = _screenshots()
    for metrics in (60, 190):
        with folder() as root:
            run_id = _fill(root, runs=5 if quick else 50, metrics=metrics, batches=100 if quick else 10_000)
            with pages.mlflow_ui(root) as server:
                waits = [_wait(pages, server, run_id) for _ in range(3)]
        told = f"50 runs of 10,000 batches and {metrics} metrics"
        yield Row(f"{told}: their table in a browser", "", [table for table, _ in waits], "s")
        yield Row(f"{told}: a run's first chart", "", [chart for _, chart in waits], "s")


def _fill(root: Path, *, runs: int, metrics: int, batches: int) -> str:
    """Make one run by MLflow, and all others as its copies; return its id."""
    workspace = Workspace(root)
    tracked = store.create_run(workspace, experiment="foretrace", name="run 0", tags={})
    client, run_id, now = tracked.client, tracked.id, int(1000 * time.time())
    points = [Metric("MSE train loss", 1 / (1 + step), now + step, step) for step in range(batches)]
    points += [
        Metric(f"val/{n}", 1 / (1 + epoch), now, epoch) for n in range(metrics - 1) for epoch in range(50)
    ]
    for at in range(0, len(points), 1000):
        client.log_batch(run_id, points[at : at + 1000])
    client.log_batch(run_id, params=[Param(f"setting.{n}", str(n)) for n in range(60)])
    client.set_terminated(run_id)
    with sqlite3.connect(workspace.database) as database:
        columns = {table: _columns(database, table) for table in ("runs", *COPIED)}
        for number in range(1, runs):
            copy = uuid.uuid4().hex
            for table, names in columns.items():
                values = ", ".join({"run_uuid": "?", "name": "?"}.get(n, n) if table == "runs" else
                                   {"run_uuid": "?"}.get(n, n) for n in names)  # fmt: skip
                given = [copy, f"run {number}"] if table == "runs" else [copy]
                database.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE run_uuid = ?",  # noqa: S608
                    [*given, run_id],
                )
    return str(run_id)


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    """Columns of a table; the run's id and name first."""
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    return sorted(
        names, key=lambda name: ["run_uuid", "name"].index(name) if name in ("run_uuid", "name") else 2
    )


def _seconds(root: Path, *words: str) -> float:
    where = [str(ROOT / "src" / words[0])] if words[0].endswith(".py") else [words[0]]
    began = time.monotonic()
    subprocess.run(  # noqa: S603
        [sys.executable, *where, *words[1:]],
        env={"FORETRACE_HOME": str(root), "PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def _wait(pages: ModuleType, server: str, run_id: str) -> tuple[float, float]:
    """Seconds until the table of runs has rows, and until a run's page has a chart; by a browser with no cache."""
    with pages.browser_page() as page:
        began = time.monotonic()
        pages.open_runs(page, server)
        table = time.monotonic() - began
        began = time.monotonic()
        page.goto(f"{server}#/experiments/1/runs/{run_id}/model-metrics?workflowType=machine_learning")
        page.locator(".js-plotly-plot").first.wait_for()
        return table, time.monotonic() - began


def _screenshots() -> ModuleType:
    """Return the script that opens MLflow's pages for the pictures of the documentation."""
    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "docs" / "screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
