"""What several tests stand on: composed configurations, and a checkout of one's own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: small networks only lose time to threads

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import settings

from foretrace.data.sequences import Sequences

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "datasets"

# The real job made small: one simulated second, a layer of 8, two batches.
SMALL = [
    "data.episodes=4",
    "data.steps=40",
    "data.window=10",
    "data.stride=10",
    "data.batch_size=4",
    "model.hidden_sizes=[8]",
    "trainer.max_epochs=1",
    "trainer.precision=32-true",
    "trainer.progress=false",
    "evaluation={warmup: 8, horizon: 10}",
]


@pytest.fixture
def composed() -> Callable[..., object]:
    """Composes ``conf/train.yaml`` with overrides, as the command does."""

    def compose_with(*overrides: str, command: str = "train") -> object:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose(command, overrides=list(overrides))

    return compose_with


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sends runs and caches of this process to a folder of the test's own."""
    monkeypatch.setenv("FORETRACE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as a newcomer's clone has it."""
    return new_checkout(tmp_path / "a checkout")  # with a space, as people have them


def new_checkout(root: Path) -> Path:
    """Copies what a clone has to a folder that is not there yet."""
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mlruns").mkdir()
    (root / "mlflow.db").symlink_to("mlruns/mlflow.db")
    return root


def train(
    checkout: Path, *overrides: str, command: str = "train", **options: object
) -> subprocess.CompletedProcess[str]:
    """Runs the real command of a checkout."""
    arguments = [sys.executable, str(checkout / "src" / f"{command}.py"), *overrides]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


@pytest.fixture
def waves() -> Sequences:
    """Twelve episodes of two features, of different lengths."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(40, 80, size=12)
    episodes = [
        np.stack([np.sin(np.arange(n) / 5 + p), 3 + np.cos(np.arange(n) / 7 + p)], axis=1)
        for p, n in enumerate(lengths)
    ]
    return Sequences.from_episodes(episodes, feature_names=["left", "right"], units=["m", "rad"], dt_s=0.1)
