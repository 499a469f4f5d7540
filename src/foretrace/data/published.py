"""Robots' recordings that others published: of two papers, and in the layouts of LeRobot and Minari.

The papers report errors on the very split and pairs that are used here. Users fetch the files from the papers'
repositories; what they got is compared with the checksums that lie in ``checksums/`` beside this module.

Shapes: T rows of a file or episode, n kept pairs of it, F features, K actions.
"""

import hashlib
import io
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from foretrace.config.data import LeRobotData, MinariData, Reading
from foretrace.data.sequences import FloatArray, Sequences
from foretrace.data.simulation.robots import ROBOTS
from foretrace.data.splits import Splits
from foretrace.data.tables.read import read_recordings
from foretrace.errors import UserError, suggest

HALFCHEETAH_SOURCE = "github.com/raminmh/liquid_time_constant_networks, experiments_with_ltcs/data/cheetah"
WALKER2D_SOURCE = "github.com/raminmh/CfC, folder data/walker"
WALKER2D_KEPT = 0.9  # share of the pairs that the protocol keeps
STEPS_S = {"HalfCheetah": 0.05, "Walker2d": 0.008}  # MuJoCo's environments, from one observation to the next


def load_halfcheetah_ltc(root: Path) -> Splits:
    """Load the half-cheetah of "Liquid Time-constant Networks" (Hasani et al., AAAI 2021).

    25 traces of 1000 rows of HalfCheetah-v2 under a trained controller, with 5 % of the actions replaced at
    random. The published windows are those of 32 steps at a stride of 10: 970 / 485 / 970.

    Args:
        root: Folder with ``trace_0000.npy`` … ``trace_0024.npy``, or with a folder ``traces`` holding them.

    Raises:
        UserError: If a file is missing or is not the published one.
    """
    names, robot = [f"trace_{number:04d}.npy" for number in range(25)], ROBOTS["halfcheetah"]
    folder = _folder(root, "traces", names, HALFCHEETAH_SOURCE)

    def part(names: list[str]) -> Sequences:
        return Sequences.from_episodes(
            _read(folder, names, "halfcheetah_ltc", HALFCHEETAH_SOURCE),
            feature_names=robot.feature_names,
            units=robot.units,
            episode_names=[Path(name).stem for name in names],
            dt_s=0.05,
            origin=f"{folder} ({HALFCHEETAH_SOURCE})",
        )

    return Splits(valid=part(names[:5]), test=part(names[5:15]), train=part(names[15:]))


def load_walker2d_cfc(root: Path) -> Splits:
    """Load the Walker2d of "Closed-form continuous-time neural networks" (Hasani et al., Nat. Mach. Intell. 2022).

    400 rollouts of Walker2d-v2 under a trained policy. A tenth of the pairs (state, next state) is left out
    at random; the number of steps since the last kept pair is an input, not scaled. The published windows are
    those of 64 pairs at a stride of 16: 9684 / 1272 / 1937. The protocol is that of the class
    ``Walker2dImitationData`` in the paper's repository, ``irregular_sampled_datasets.py``.

    Args:
        root: Folder with ``rollout_000.npy`` … ``rollout_399.npy``, or with a folder ``rollouts`` that holds
            them. The 60 test files may be missing; the result then has no test part. No checksums of these
            are known, so only their shape is checked.

    Raises:
        UserError: If a training or validation file is missing or is not the published one.
    """
    names = [f"rollout_{number:03d}.npy" for number in range(400)]
    np.random.RandomState(125487).shuffle(names)  # published
    test_names, valid_names, train_names = names[:60], names[60:100], names[100:]
    folder = _folder(root, "rollouts", train_names + valid_names, WALKER2D_SOURCE)
    # Published. One generator for all parts, in this order: what is kept depends on all files before.
    rng, robot = np.random.RandomState(891374), ROBOTS["walker2d"]

    def part(names: list[str]) -> Sequences:
        states = _read(folder, names, "walker2d_cfc", WALKER2D_SOURCE)
        # The published windows start at range(0, n - 64, 16), which excludes a window that would end at the last
        # pair. Without that pair the same windows come from the common rule, which uses all rows.
        kept = [np.flatnonzero(rng.rand(len(state) - 1) < WALKER2D_KEPT)[:-1] for state in states]
        return Sequences.from_episodes(
            [state[steps] for state, steps in zip(states, kept, strict=True)],
            next_values=[state[steps + 1] for state, steps in zip(states, kept, strict=True)],
            # Steps since the last kept pair; before the first one, since the start, which counts as step -1.
            covariates=[np.diff(steps, prepend=-1)[:, None] for steps in kept],
            covariate_names=["elapsed_steps"],
            feature_names=robot.feature_names,
            units=robot.units,
            episode_names=[Path(name).stem for name in names],
            origin=f"{folder} ({WALKER2D_SOURCE})",
            notes={"rows left out": sum(map(len, states)) - sum(map(len, kept))},
        )

    train, valid = part(train_names), part(valid_names)
    if absent := _absent(folder, test_names, "test files"):
        missing = f"{absent} are not in {folder}; see {WALKER2D_SOURCE}."
        return Splits(train=train, valid=valid, test=None, test_missing=missing)
    return Splits(train=train, valid=valid, test=part(test_names))


def _folder(root: Path, inner: str, names: list[str], source: str) -> Path:
    """Return the folder that holds the files, all of which must be there."""
    folder = root / inner if (root / inner).is_dir() else root
    if absent := _absent(folder, names, "published files"):
        problem = f"lacks {absent}" if folder.is_dir() else "is no folder"
        raise UserError(f"data.root: {folder} {problem}", hint=f"They are published in {source}.")
    return folder


def _absent(folder: Path, names: list[str], what: str) -> str:
    """Say how many of the files are not there, and name the first; empty if all are."""
    absent = sorted(name for name in names if not (folder / name).is_file())
    few = ", ".join(absent[:3]) + ", …" * (len(absent) > 3)
    return f"{len(absent)} of {len(names)} {what} ({few})" if absent else ""


def _read(folder: Path, names: list[str], protocol: str, source: str) -> list[FloatArray]:
    """Read files after comparing their checksums, where these are known; each (T, F)."""
    checksums = resources.files("foretrace.data") / "checksums" / f"{protocol}.sha256"
    known = {file: checksum for checksum, file in map(str.split, checksums.read_text("ascii").splitlines())}
    read: list[FloatArray] = []
    for name in names:
        content = (folder / name).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        try:
            if known.get(name, found) != found:
                raise ValueError(f"its SHA-256 is {found}, not {known[name]}")
            values = np.load(io.BytesIO(content)).astype(np.float32)
            if values.ndim != 2 or values.shape[1] != 17 or len(values) < 2:
                raise ValueError(f"its shape is {values.shape}, not (rows, 17)")
        except (ValueError, EOFError) as error:
            problem = f"{folder / name} is not the published file: {error}"
            raise UserError(problem, hint=f"Fetch it again from {source}.") from error
        read.append(values)
    return read


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
