"""Fixtures of all rooms: composed configurations, workspaces, and what is made once for all tests."""

import os
import runpy
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: small networks only lose time to threads

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from helpers import ROOT, SMALL, client, new_checkout
from hydra import compose, initialize_config_dir
from hypothesis import settings
from lightning.pytorch import Trainer
from mlflow import MlflowClient

from foretrace.commands import train as train_command
from foretrace.data.sequences import Sequences
from foretrace.workspace import Workspace

settings.register_profile("shared machine", deadline=None, max_examples=40)
settings.load_profile("shared machine")


@pytest.hookimpl(tryfirst=True)  # before those that are asked for are chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Takes every fifth case of a hostile test with more than twenty into the quick suite; the others are slow."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if "hostile" in item.path.parts:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for many in cases.values():
        for number, item in enumerate(many if len(many) > 20 else []):
            if number % 5:
                item.add_marker("slow")


@dataclass(frozen=True)
class Trained:
    """Runs that are there for all tests: look at them, or `copy` them to change something."""

    root: Path
    run_ids: list[str]

    @property
    def run_id(self) -> str:
        """The first run."""
        return self.run_ids[0]

    def copy(self, root: Path) -> "Trained":
        """The same workspace at another place."""
        shutil.copytree(self.root, root, dirs_exist_ok=True, symlinks=True)
        return Trained(root, self.run_ids)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder once for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def empty_database(once: Callable[..., Path]) -> Path:
    """A database with MLflow's tables, which take a second to make."""
    return once("tables", lambda root: MlflowClient(f"sqlite:///{root}/mlflow.db").search_experiments())


@pytest.fixture(scope="session")
def simulated(once: Callable[..., Path]) -> Path:
    """A cache of simulated data, which any test may add to."""
    return once("simulated", lambda root: None)


def composed_with(*overrides: str, command: str = "train") -> object:
    """Composes a command's configuration, as the command does."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(command, overrides=list(overrides))


@pytest.fixture
def composed() -> Callable[..., object]:
    """Composes ``conf/train.yaml`` with overrides, as the command does."""
    return composed_with


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sends runs and caches of this process to a folder in which there is nothing."""
    monkeypatch.setenv("FORETRACE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def here(bare: Path, empty_database: Path, simulated: Path) -> Path:
    """Sends runs and caches of this process to a folder of the test's own, with a database that has no run yet."""
    shutil.copy(empty_database / "mlflow.db", bare)
    (bare / ".cache").symlink_to(simulated)
    return bare


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a command set what it sets in the environment: afterwards it is what it was."""
    for variable in ("HYDRA_FULL_ERROR", "MPLBACKEND"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))


@pytest.fixture
def typed(
    bare: Path, as_a_command: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Types a command, by its own script in this process: ``typed("train", "seed=1")``. In an empty folder."""
    monkeypatch.chdir(bare)
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("training began"))

    def type_command(name: str, *words: str) -> Answer:
        script = str(ROOT / "src" / f"{name}.py")
        monkeypatch.setattr("sys.argv", [script, *words])
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(script, run_name="__main__")
        finally:
            signal.signal(signal.SIGTERM, handler)
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return type_command


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as a newcomer's clone has it."""
    return new_checkout(tmp_path / "a checkout")  # with a space, as people have them


@pytest.fixture(scope="session")
def trained(once: Callable[..., Path], empty_database: Path, simulated: Path) -> Trained:
    """Two runs on simulated gaits, seeds 1 and 2, with all that a run shows. Not to be changed."""

    def make(root: Path) -> None:
        shutil.copy(empty_database / "mlflow.db", root)
        (root / ".cache").symlink_to(simulated)
        for seed in (1, 2):
            config = composed_with(*SMALL, "data.episodes=8", f"seed={seed}")
            train_command.run(config, workspace=Workspace(root))

    return runs_of(once("trained", make))


@pytest.fixture(scope="session")
def trained_on_files(once: Callable[..., Path], empty_database: Path) -> Trained:
    """A run on ten recordings, ``<n>.csv``, of two features and a covariate. Not to be changed."""

    def make(root: Path) -> None:
        shutil.copy(empty_database / "mlflow.db", root)
        generator = np.random.default_rng(0)
        for n in range(10):
            steps, push = np.arange(60 + 5 * n), generator.normal(size=60 + 5 * n)
            columns = [30 + np.cos(steps / 7 + n), 0.01 * np.sin(steps / 5 + n) + 0.001 * push, push]
            table = pd.DataFrame(np.stack(columns, axis=1), columns=["height", "angle", "push"])
            table.to_csv(root / f"{n}.csv", index=False)
        files = ["data=files", f"data.path='{root}/*.csv'", "data.covariates=[push]", "data.dt_s=0.1"]
        files += ["data.units={height: m}"]
        network = ["model.hidden_sizes=[8,6]", "model.output=linear"]
        train_command.run(composed_with(*files, *SMALL[2:], *network), workspace=Workspace(root))

    return runs_of(once("trained_on_files", make))


def runs_of(root: Path) -> Trained:
    """The runs of a workspace, the oldest first."""
    found = client(root).search_runs(["1"], order_by=["attributes.start_time ASC"])
    return Trained(root, [run.info.run_id for run in found])


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws nothing, which takes seconds."""
    monkeypatch.setattr("foretrace.reports.report.draw", lambda *_, **__: [])
    monkeypatch.setattr("foretrace.reports.report.draw_motion", lambda *_: None)


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
