"""foretrace from Python: train, list and compare runs by the same path as the commands.

Errors are exceptions (`foretrace.errors.UserError` for what the caller can fix); nothing ends the interpreter.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf.errors import OmegaConfBaseException

from foretrace.commands import evaluate
from foretrace.commands import train as train_command
from foretrace.config.parse import from_hydra
from foretrace.errors import UserError
from foretrace.serving.loading import load_run
from foretrace.serving.predictor import Predictor
from foretrace.tracking import store
from foretrace.workspace import CONF, Workspace, atomic_write

EPISODE, TIME = "episode", "time"  # columns beside those of a stored frame
SHOWN = ("test/mse", "test/l1", "skill", "val/mse")


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Args:
        id: Its id in MLflow.
        metrics: Its final metrics by name.
        folder: Its artifacts on this machine.
        workspace: Where it is kept.
    """

    id: str
    metrics: dict[str, float]
    folder: Path
    workspace: Workspace

    @cached_property
    def model(self) -> Predictor:
        """The trained model, ready to forecast."""
        return load_run(self.id, self.workspace)

    @property
    def figures(self) -> dict[str, Path]:
        """Image files by name."""
        return {path.stem: path for path in sorted((self.folder / "figures").glob("*.*"))}

    @property
    def report_path(self) -> Path:
        """The page on which a reader can judge the run."""
        return self.folder / "report.html"

    def _repr_html_(self) -> str:
        shown = {name: f"{self.metrics[name]:.6g}" for name in SHOWN if name in self.metrics}
        return str(pd.DataFrame({f"run {self.id}": shown}).to_html())


def train(data: Any = None, /, *overrides: str, workspace: Workspace | None = None, **settings: Any) -> Run:
    """Train a model and track the run, as ``python src/train.py`` does.

    Args:
        data: What to train on. A pandas or polars frame, an Arrow table or an array of shape (T, F) is one
            episode; a list of these, or a mapping of names to them, are several; a path names files; the name
            of an option of ``conf/data``, or a mapping of settings with ``source``, chooses it. None: the default.
        overrides: As on the command line, e.g. ``"trainer.max_epochs=5"``.
        workspace: Where runs are kept; None for the checkout or the working directory.
        settings: By group, e.g. ``trainer={"max_epochs": 5}, seed=2, optimizer="sgd"``.

    Raises:
        UserError: If something that was given cannot be used; then there is no run.
        DivergedError: If training produced numbers that are not finite.
    """
    workspace = workspace or Workspace.default()
    if data is None and "data" in settings:
        data = settings.pop("data")
    asked = [*_data_overrides(data, workspace), *_overrides(settings), *overrides]
    loggers = list[Any]()
    begun = LambdaCallback(on_fit_start=lambda trainer, _: loggers.append(trainer.logger))
    composed = _compose("train", asked)
    workspace = replace(workspace, uri=composed.tracking.uri)
    metrics = train_command.run(composed, overrides=asked, workspace=workspace, callbacks=[begun])
    return Run(loggers[0].version, metrics, Path(loggers[0].save_dir), workspace)


def runs(*, workspace: Workspace | None = None, limit: int = 1000) -> pd.DataFrame:
    """Return the latest runs, newest first: a row each, with name, status, start, metrics and parameters."""
    _, found = store.latest_runs(workspace or Workspace.default(), limit=limit)
    rows = [
        {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "started": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
            **run.data.metrics,
            **run.data.params,
        }
        for run in found
    ]
    return pd.DataFrame(rows, columns=None if rows else ["id", "name", "status", "started"]).set_index("id")


def compare(
    first: "Run | str", second: "Run | str", *, workspace: Workspace | None = None
) -> dict[str, float]:
    """Tell whether one of two runs is better on the same test episodes, or whether it is chance.

    Prints a sentence for each kind of error, and returns the ratios of the errors by their names.

    Raises:
        UserError: If the runs were not evaluated on the same data.
    """
    workspace = workspace or Workspace.default()
    ids = ",".join(one.id if isinstance(one, Run) else one for one in (first, second))
    return evaluate.run(_compose("evaluate", [f"runs=[{ids}]"]), workspace=workspace)


def _compose(command: str, overrides: list[str]) -> Any:
    """Compose a command's settings, with Hydra's errors in one sentence."""
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(command, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise from_hydra(error) from error


def _data_overrides(data: Any, workspace: Workspace) -> list[str]:
    if data is None:
        return []
    if isinstance(data, Mapping) and isinstance(data.get("source"), str):
        settings = {name: value for name, value in data.items() if name != "source"}
        return [f"data={data['source']}", *_overrides({"data": settings})]
    if isinstance(data, str) and (CONF / "data" / f"{data}.yaml").is_file():
        return [f"data={data}"]
    if isinstance(data, str | Path):
        return ["data=files", f"data.path={_written(str(data))}"]
    return ["data=files", *_store_frames(data, workspace)]


def _store_frames(data: Any, workspace: Workspace) -> list[str]:
    """Keep frames as one Parquet file named after its content, so that the run can be repeated, and name it."""
    if isinstance(data, pd.DataFrame) and data.index.nlevels > 1:
        levels = [*range(data.index.nlevels - 1)]  # all but the last name an episode
        groups = data.groupby(level=levels, sort=False)
        data = {"/".join(map(str, name)): part.droplevel(levels) for name, part in groups}
    elif isinstance(data, list | tuple) or (isinstance(data, np.ndarray) and data.ndim == 3):
        data = {f"episode {number}": one for number, one in enumerate(data)}
    tables = [_to_table(one) for one in (data.values() if isinstance(data, Mapping) else [data])]
    columns = list[str]()
    if isinstance(data, Mapping):
        names = [pa.array([str(name)] * len(table)) for name, table in zip(data, tables, strict=True)]
        tables = [table.append_column(EPISODE, name) for table, name in zip(tables, names, strict=True)]
        columns.append(f"data.episode_column={EPISODE}")
    if not tables:
        raise UserError("data: an empty list holds no episode")
    if all(TIME in table.column_names for table in tables):
        columns.append(f"data.order_column={TIME}")
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(f"data: the episodes do not fit together: {error}") from error
    pq.write_table(whole, content := pa.BufferOutputStream())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = workspace.cache / "frames" / f"{digest[:16]}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as aside:
            aside.write_bytes(content.getvalue())
    return [f"data.path={_written(str(path))}", *columns]


def _to_table(frame: Any) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pd.DataFrame):
        if isinstance(frame.index, pd.DatetimeIndex) and TIME not in frame.columns:
            frame = frame.rename_axis(TIME).reset_index()
        return pa.Table.from_pandas(frame, preserve_index=False)
    if hasattr(frame, "to_arrow"):  # polars
        return frame.to_arrow()
    values = np.asarray(frame)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        got = f"shape {values.shape} of {values.dtype}" if values.ndim else type(frame).__name__
        raise UserError(f"data: an episode is a frame or an array (steps, features) of numbers, got {got}")
    return pa.table({f"feature_{number}": values[:, number] for number in range(values.shape[1])})


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    """Spell settings by group as overrides.

    >>> _overrides({"seed": 2, "trainer": {"max_epochs": 5, "gradient_clip": None}, "optimizer": "sgd"})
    ['seed=2', 'trainer.max_epochs=5', 'trainer.gradient_clip=null', 'optimizer=sgd']
    """
    written = []
    for group, value in settings.items():
        if isinstance(value, Mapping):
            written += [f"{group}.{name}={_written(inner)}" for name, inner in value.items()]
        else:
            written.append(f"{group}={value if isinstance(value, str) else _written(value)}")
    return written


def _written(value: Any) -> str:
    r"""Write a value in Hydra's grammar.

    >>> _written({"a": [1, 2.5], "b": None, "c": "it's"})
    "{a: [1,2.5], b: null, c: 'it\\'s'}"
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_written(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_written(inner) for inner in value) + "]"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)
