"""What a person waits for: the first training step, an answer to a mistake, a whole job."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
from speed_rows import ROOT, Row, folder, in_turn, ratios

SMALL = ("trainer.max_epochs=1", "data.episodes=10", "model.hidden_sizes=[8]", "trainer.progress=false")
ANSWERS = {"--help": "--help", "a setting that does not exist": "trainer.max_epoch=3",
           "an optimizer that does not exist": "optimizer.name=Adem"}  # fmt: skip


def rows(*, quick: bool) -> Iterator[Row]:
    """Those of short commands."""
    with folder() as root:
        _checkout(root)
        _run(root, *SMALL)  # simulates, and makes the database
        alone = "import torch, lightning"
        for aim, beside in (
            ("≤ 1.3", alone),
            ("", f"{alone}, mlflow, mlflow.store.tracking.sqlalchemy_store"),
        ):
            ours, least = in_turn(
                lambda: _first_step_s(root), lambda code=beside: _python_s(code), 2 if quick else 5
            )
            told = f"{sorted(ours)[len(ours) // 2]:.2f} / {sorted(least)[len(least) // 2]:.2f} s"
            name = beside.removeprefix("import ").replace(
                "mlflow.store.tracking.sqlalchemy_store", "its SQLite store"
            )
            yield Row(f"from the command to the first training step / importing {name}", aim, ratios(ours, least),
                      note=told)  # fmt: skip
        for what, argument in ANSWERS.items():
            times = [_seconds(root, argument) for _ in range(5)]
            yield Row(f"answer to {what}", "< 1.5 s", times, "s")
        tiny = [_seconds(root, *SMALL) for _ in range(2 if quick else 5)]
        yield Row("a whole tiny run, with report and model file", "", tiny, "s", "one layer of 8, one batch")


def job_rows(*, quick: bool) -> Iterator[Row]:
    """Measure the default job."""
    with folder() as root:
        _checkout(root)
        began = time.monotonic()
        told = _run(root, *(SMALL if quick else ()))
        total = time.monotonic() - began
    times = re.findall(r"(?:training|pictures) ([0-9.]+) (s|min)", told)
    training, evaluation = (float(number) * (60 if unit == "min" else 1) for number, unit in times)
    note = (
        f"training {training:.0f} s; evaluation, pictures and page {evaluation:.0f} s; imports, data and record \
{total - training - evaluation:.0f} s"
    )
    yield Row("the default job, 50 epochs, to the end of its report", "", [total / 60], "min", note)


def _checkout(root: Path) -> None:
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mlruns").mkdir()
    (root / "mlflow.db").symlink_to("mlruns/mlflow.db")


def _run(root: Path, *overrides: str) -> str:
    command = [sys.executable, "src/train.py", *overrides]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout  # noqa: S603


def _first_step_s(root: Path) -> float:
    """From the start of the process to the first point of the training loss."""
    began = time.time()
    _run(root, *SMALL)
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    newest = client.search_runs(["1"], max_results=1)[0]
    return client.get_metric_history(newest.info.run_id, "MSE train loss")[0].timestamp / 1000 - began


def _seconds(root: Path, *arguments: str) -> float:
    """Of a command, whatever it answers."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "src/train.py", *arguments], cwd=root, capture_output=True)  # noqa: S603
    return time.perf_counter() - began


def _python_s(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)  # noqa: S603
    return time.perf_counter() - began
