"""A checkout of one's own in which the real command runs, and what its runs came to."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import torch
from mlflow.entities import Run

ROOT = Path(__file__).parents[1]
# The real job made small, with everything switched on that draws random numbers: 4 batches an epoch.
SMALL = (
    "data.episodes=6",
    "data.steps=40",
    "data.window=10",
    "data.stride=10",
    "data.batch_size=4",
    "model.hidden_sizes=[16,16]",
    "model.dropout=0.2",
    "loss.input_noise=0.1",
    "trainer.progress=false",
    "evaluation={warmup: 8, horizon: 10}",
)
Histories = dict[str, list[tuple[int, float]]]


class Checkout:
    """Source and configuration, copied; database, runs and caches of its own.

    Args:
        root: Where to; it must not exist yet.
        uri: A tracking server, or None for the checkout's own database.
    """

    def __init__(self, root: Path, *, uri: str | None = None) -> None:
        self.root, self.uri = root, uri
        for folder in ("src", "conf"):
            unneeded = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, root / folder, ignore=unneeded, dirs_exist_ok=True)
        (root / "mlruns").mkdir(exist_ok=True)
        (root / "mlflow.db").symlink_to("mlruns/mlflow.db")

    def start(self, *overrides: str) -> "Command":
        """Start ``python src/train.py``."""
        return Command(self.root, *overrides, *([f"tracking.uri={self.uri}"] if self.uri else []))

    def command(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the checkout to its end."""
        environment = os.environ | ({"MLFLOW_TRACKING_URI": self.uri} if self.uri else {})
        line = [sys.executable, f"src/{script}", *arguments]
        return subprocess.run(  # noqa: S603
            line, cwd=self.root, env=environment, capture_output=True, text=True, check=True
        )

    @property
    def client(self) -> mlflow.MlflowClient:
        """Of the store in which the runs are."""
        return mlflow.MlflowClient(tracking_uri=self.uri or f"sqlite:///{self.root / 'mlflow.db'}")

    def runs(self) -> list[Run]:
        """All trainings, the newest first."""
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, order_by=["start_time DESC"]))

    def histories(self, run_id: str) -> Histories:
        """Return steps and values of all metrics, as often as they were logged."""
        client = self.client
        return {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))
            for name in client.get_run(run_id).data.metrics
        }

    def checkpoints(self, run_id: str) -> Path:
        """Where a run's checkpoints are, with the checkout's own database."""
        return self.root / "mlruns" / "artifacts" / run_id / "artifacts" / "checkpoints"

    def weights(self, run_id: str, name: str) -> dict[str, torch.Tensor]:
        """Return the weights in a checkpoint."""
        found = torch.load(self.checkpoints(run_id) / name, weights_only=True)
        return dict(found["state_dict"])


class Command:
    """A training command at work; what it prints is read as it comes."""

    def __init__(self, root: Path, *overrides: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.began = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "src/train.py", *overrides],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, start: str) -> bool:
        """Wait for a line that begins so; False if the command ended without."""
        with self._changed:
            while not any(line.startswith(start) for line in self.lines):
                if not self._reader.is_alive():
                    return False
                self._changed.wait(0.2)
        return True

    def kill(self) -> bool:
        """SIGKILL; False if it had ended."""
        at_work = self.process.poll() is None
        self.process.kill()
        self.end()
        return at_work

    def end(self) -> int:
        """Wait for its end; return the exit status."""
        self._reader.join()
        return self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are equal, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
