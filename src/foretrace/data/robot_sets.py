"""Robots' recordings in the layouts of LeRobot and Minari, as they lie on disk.

Shapes: T rows of one episode, F features, K actions.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foretrace.config.data import LeRobotData, MinariData, Reading
from foretrace.data.sequences import Sequences
from foretrace.data.simulation.robots import ROBOTS
from foretrace.data.tables.read import read_recordings
from foretrace.errors import UserError, suggest

STEPS_S = {"HalfCheetah": 0.05, "Walker2d": 0.008}  # MuJoCo's environments, from one observation to the next


def load_lerobot(settings: LeRobotData, *, cache: Path) -> Sequences:
    """Read a LeRobot data set (v2.1 or v3): the state is forecast, the action is a covariate.

    Raises:
        UserError: If there is none, or it has no such state or action.
    """
    root = Path(settings.root).expanduser()
    info = _read_json(root / "meta" / "info.json", "a LeRobot data set has it; data.root is its folder")
    try:
        features, rate = dict(info["features"]), float(info["fps"])
        columns = {
            key: _elements(key, features[key])
            for key in (settings.state, settings.action)
            if key is not None and key in features
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{root}/meta/info.json: not what LeRobot writes ({error!r})") from error
    for setting, key in (("data.state", settings.state), ("data.action", settings.action)):
        if key is not None and key not in columns:
            raise UserError(f"{setting}: no {key!r} in {root}", hint=suggest(key, features))
    names, actions = columns[settings.state], columns[settings.action] if settings.action else {}
    reading = Reading(
        features=list(names), covariates=list(actions), episode_column="episode_index", order_column="frame_index",
        time_format="s", dt_s=1 / rate,
    )  # fmt: skip
    pattern = f"{root}/data/**/*.parquet"
    sequences = read_recordings(pattern, reading, cache=cache).sequences
    return replace(
        sequences,
        feature_names=tuple(names.values()),
        covariate_names=tuple(f"{settings.action}.{name}" for name in actions.values()),
        episode_names=tuple(name.rpartition("/")[2] for name in sequences.episode_names),
        recordings=tuple(name.rpartition("/")[2] for name in sequences.recordings),
    )


def load_minari(settings: MinariData) -> Sequences:
    """Read a Minari data set (HDF5): observations are forecast, actions are covariates.

    Raises:
        UserError: If there is none, or its observations are no vectors of numbers.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError("data=minari: needs h5py", hint="pip install 'foretrace[minari]'") from error
    root = Path(settings.root).expanduser()
    folder = root if (root / "main_data.hdf5").is_file() else root / "data"
    about = _read_json(folder / "metadata.json", "a Minari data set has it; data.root is its folder")
    try:
        with h5py.File(folder / "main_data.hdf5") as file:
            names = sorted(
                (n for n in file if n.startswith("episode_")), key=lambda n: int(n.rpartition("_")[2])
            )
            observations = [np.asarray(file[name]["observations"], np.float32) for name in names]
            actions = [_one_more(np.asarray(file[name]["actions"], np.float32), len(o))
                       for name, o in zip(names, observations, strict=True)]  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}/main_data.hdf5: no vectors of numbers by episode: {error}") from error
    if not observations or observations[0].ndim != 2:
        raise UserError(f"{folder}/main_data.hdf5: no episodes of observations (T, F)")
    environment = json.dumps(about.get("env_spec", "")) + str(about.get("dataset_id", ""))
    width = observations[0].shape[1]
    known = [(r, r.env_id.partition("-")[0]) for r in ROBOTS.values()]
    robot, name = next(((r, n) for r, n in known if n in environment), (None, ""))
    named = robot if width == 17 else None
    return Sequences.from_episodes(
        observations,
        feature_names=named.feature_names if named else [f"observation_{f}" for f in range(width)],
        units=named.units if named else None,
        episode_names=names,
        dt_s=settings.dt_s or STEPS_S.get(name),
        covariates=actions if settings.actions else None,
        covariate_names=[f"action_{k}" for k in range(actions[0].shape[1])] if settings.actions else (),
        origin=str(root),
    )


def _elements(key: str, feature: dict[str, Any]) -> dict[str, str]:
    """Name of each column of a feature, by the name that it has in the files."""
    size, names = int(feature["shape"][0]), feature.get("names")
    while isinstance(names, dict):
        names = next(iter(names.values()), None)
    columns = [key] if size == 1 else [f"{key}_{k}" for k in range(size)]
    known = [str(name) for name in names] if isinstance(names, list) and len(names) == size else columns
    return dict(zip(columns, known, strict=True))


def _one_more(actions: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """Actions of shape (T, K); the last observation has none, and none follows from it."""
    flat = actions.reshape(len(actions), -1)
    return np.concatenate([flat, flat[-1:]]) if len(flat) == rows - 1 else flat


def _read_json(file: Path, hint: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read: {error}", hint=hint[:1].upper() + hint[1:]) from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: not a table of settings")
    return found
