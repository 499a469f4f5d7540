"""A store of runs whose records somebody has tampered with, and the commands that read them."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from helpers import ROOT
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient
from omegaconf import OmegaConf
from trained import checkpoint, saved

from foretrace.commands import evaluate, export, predict, train
from foretrace.config import ExportConfig, PredictConfig, TrainConfig, parse
from foretrace.config.run_config import NOT_RECORDED
from foretrace.sweeps.sweep import reopen
from foretrace.workspace import Workspace

Files = Mapping[str, bytes | str]
CONFIG, CHECKPOINT, SWEEP = "config.yaml", "checkpoints/best.ckpt", "sweep.json"
PREDICT: dict[str, Any] = {
    "model": None,
    "output": "out.csv",
    "horizon": 1,
    "mode": "forecast",
    "overwrite": False,
}
PREDICT |= {
    "data": {"path": "rows.csv", "episode_column": None, "order_column": None},
    "tracking": {"uri": None},
}
EXPORT: dict[str, Any] = {"format": "onnx", "output": None, "register_as": None, "overwrite": False}
EXPORT |= {"tracking": {"uri": None}}
CSV = "height,angle,push\n" + "".join(f"{row % 7},{row % 5},{row % 3}\n" for row in range(200))
OF_FILES = [
    "data=files",
    "data.path=rows.csv",
    "data.features=[height,angle]",
    "data.covariates=[push]",
    "data.dt_s=0.1",
]
OF_FILES += ["data.window=10", "data.stride=10", "data.batch_size=4", "model.hidden_sizes=[6,5]"]


class Begun(Exception):  # noqa: N818
    """What was recorded was taken: a run begins, or goes on."""


class Runs:
    """A checkout's runs, made without training.

    Args:
        root: The checkout, an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "mlruns/staging").mkdir(parents=True)
        (root / "rows.csv").write_text(CSV)
        self.client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
        artifacts = (root / "mlruns/artifacts").as_uri()
        self._experiment = self.client.create_experiment("foretrace", artifact_location=artifacts)
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            self._composed = {
                name: compose(name, overrides=OF_FILES if name == "train" else [])
                for name in ("train", "evaluate")
            }
        self._settings = parse.parse(self._composed["train"], TrainConfig).model_dump(exclude=NOT_RECORDED)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """A run's plain settings, with changes by their names with dots (here ``__``)."""
        changed = json.loads(json.dumps(self._settings))
        for name, value in changes.items():
            *groups, last = name.split("__")
            place = changed
            for group in groups:
                place = place[group]
            place[last] = value
        return changed

    def add(self, files: Files = {}, tags: Mapping[str, str] = {}, *, ended: bool = True) -> str:  # noqa: B006
        """A run with these artifacts; returns its id."""
        run_id = self.client.create_run(self._experiment, tags=dict(tags)).info.run_id
        for name, content in files.items():
            path = self.folder(run_id) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if ended:
            self.client.set_terminated(run_id, status="KILLED")
        return run_id

    def folder(self, run_id: str) -> Path:
        """Of its artifacts."""
        return self.root / "mlruns/artifacts" / run_id / "artifacts"

    def locate(self, run_id: str, location: str) -> None:
        """Says that its artifacts are somewhere else."""
        with closing(sqlite3.connect(self.root / "mlflow.db")) as database, database:
            database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (location, run_id))

    def ask(self, command: str, run_id: str) -> None:
        """What the command does with a run, in a training as far as its beginning."""
        commands: dict[str, Callable[[], object]] = {
            "rerun": lambda: train.run(self._with("train", rerun=run_id), workspace=Workspace.default()),
            "resume": lambda: train.run(self._with("train", resume=run_id), workspace=Workspace.default()),
            "evaluate": lambda: evaluate.run(
                self._with("evaluate", run=run_id), workspace=Workspace.default()
            ),
            "compare": lambda: evaluate.run(
                self._with("evaluate", runs=[run_id, run_id]), workspace=Workspace.default()
            ),
            "predict": lambda: predict.run(
                PredictConfig.model_validate(PREDICT | {"run": run_id}), workspace=Workspace.default()
            ),
            "export": lambda: export.run(
                ExportConfig.model_validate(EXPORT | {"run": run_id}), workspace=Workspace.default()
            ),
            "sweep.resume": lambda: search_or_grid(run_id),
        }
        commands[command]()

    def made_by(self) -> set[str]:
        """All that is there, to compare."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def _with(self, name: str, **changes: Any) -> Any:
        composed = OmegaConf.create(OmegaConf.to_container(self._composed[name], resolve=False))
        for key, value in changes.items():
            OmegaConf.update(composed, key.replace("__", "."), value)
        return composed


def search_or_grid(run_id: str) -> None:
    """Resumes a sweep, as the sweeper does."""
    reopen(run_id, workspace=Workspace.default()).check(lambda job: begin())


def begin() -> None:
    """Says that what was recorded was taken."""
    raise Begun


def good(runs: Runs, **changes: Any) -> dict[str, bytes | str]:
    """What a training has recorded."""
    return {CONFIG: yaml.safe_dump(runs.settings(**changes)), CHECKPOINT: saved(checkpoint())}
