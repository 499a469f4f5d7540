"""Published recordings of robots, with the very split and pairs of the papers that report errors on them.

Users fetch the files from the papers' repositories; what they got is compared with the checksums that lie in
``checksums/`` beside this module.

Shapes: T rows of a file, n kept pairs of it, F features.
"""

import hashlib
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from foretrace.data.sequences import FloatArray, IntArray, Sequences
from foretrace.data.simulation.robots import ROBOTS
from foretrace.data.splits import Splits
from foretrace.errors import UserError

HALFCHEETAH_SOURCE = "github.com/raminmh/liquid_time_constant_networks, experiments_with_ltcs/data/cheetah"
WALKER2D_SOURCE = "github.com/raminmh/CfC, folder data/walker"
WALKER2D_KEPT = 0.9  # share of the pairs that the protocol keeps


def load_halfcheetah_ltc(root: Path) -> Splits:
    """Load the half-cheetah of "Liquid Time-constant Networks" (Hasani et al., AAAI 2021).

    25 traces of 1000 rows of HalfCheetah-v2 under a trained controller, with 5 % of the actions replaced at
    random. The published windows are those of 32 steps at a stride of 10: 970 / 485 / 970.

    Args:
        root: Folder with ``trace_0000.npy`` … ``trace_0024.npy``, or with a folder ``traces`` holding them.

    Raises:
        UserError: If a file is missing or is not the published one.
    """
    folder, names = _folder(root, "traces"), [f"trace_{number:04d}.npy" for number in range(25)]
    _require(folder, names, HALFCHEETAH_SOURCE)
    checksums = _checksums("halfcheetah_ltc")
    robot = ROBOTS["halfcheetah"]

    def part(names: list[str]) -> Sequences:
        return Sequences.from_episodes(
            [_read(folder / name, checksums, HALFCHEETAH_SOURCE) for name in names],
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
    folder = _folder(root, "rollouts")
    test_names, valid_names, train_names = _walker2d_split()
    _require(folder, sorted(train_names + valid_names), WALKER2D_SOURCE)
    checksums = _checksums("walker2d_cfc")
    # Published. One generator for all parts, in this order: what is kept depends on all files before.
    rng = np.random.RandomState(891374)

    def part(names: list[str]) -> Sequences:
        states = [_read(folder / name, checksums, WALKER2D_SOURCE) for name in names]
        return _thin_out(states, names, rng, origin=f"{folder} ({WALKER2D_SOURCE})")

    train, valid = part(train_names), part(valid_names)
    if absent := [name for name in sorted(test_names) if not (folder / name).is_file()]:
        missing = (
            f"{len(absent)} of 60 test files ({_few(absent)}) are not in {folder}; see {WALKER2D_SOURCE}."
        )
        return Splits(train=train, valid=valid, test=None, test_missing=missing)
    return Splits(train=train, valid=valid, test=part(test_names))


def _walker2d_split() -> tuple[list[str], list[str], list[str]]:
    """Return the names of the test, validation and training files, in the published order."""
    names = [f"rollout_{number:03d}.npy" for number in range(400)]
    np.random.RandomState(125487).shuffle(names)  # published
    return names[:60], names[60:100], names[100:]


def _thin_out(
    states: list[FloatArray], names: list[str], rng: np.random.RandomState, *, origin: str
) -> Sequences:
    kept = [_keep(len(state) - 1, rng) for state in states]
    robot = ROBOTS["walker2d"]
    return Sequences.from_episodes(
        [state[steps] for state, steps in zip(states, kept, strict=True)],
        next_values=[state[steps + 1] for state, steps in zip(states, kept, strict=True)],
        # Steps since the last kept pair; before the first one, since the start, which counts as step -1.
        covariates=[np.diff(steps, prepend=-1)[:, None] for steps in kept],
        covariate_names=["elapsed_steps"],
        feature_names=robot.feature_names,
        units=robot.units,
        episode_names=[Path(name).stem for name in names],
        origin=origin,
        notes={
            "rows left out": sum(len(state) - len(steps) for state, steps in zip(states, kept, strict=True))
        },
    )


def _keep(pairs: int, rng: np.random.RandomState) -> IntArray:
    kept = np.flatnonzero(rng.rand(pairs) < WALKER2D_KEPT)
    # The published windows start at range(0, n - 64, 16), which excludes a window that would end at the last
    # pair. Without that pair the same windows come from the common rule, which uses all rows.
    return kept[:-1].astype(np.int64)


def _folder(root: Path, inner: str) -> Path:
    return root / inner if (root / inner).is_dir() else root


def _require(folder: Path, names: Sequence[str], source: str) -> None:
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        lacking = f"lacks {len(absent)} of {len(names)} published files ({_few(absent)})"
        problem = lacking if folder.is_dir() else "is no folder"
        raise UserError(f"data.root: {folder} {problem}", hint=f"They are published in {source}.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _checksums(name: str) -> dict[str, str]:
    """Return the SHA-256 of each file by its name."""
    text = resources.files("foretrace.data").joinpath("checksums", f"{name}.sha256").read_text("ascii")
    return {file: checksum for checksum, file in (line.split() for line in text.splitlines())}


def _read(path: Path, checksums: dict[str, str], source: str) -> FloatArray:
    """Read one file after comparing its checksum, where one is known. Shape (T, F)."""
    content = path.read_bytes()
    wanted, found = checksums.get(path.name), hashlib.sha256(content).hexdigest()
    if wanted not in (None, found):
        raise _not_as_published(path, f"its SHA-256 is {found}, not {wanted}", source)
    try:
        values: FloatArray = np.load(io.BytesIO(content)).astype(np.float32)
    except (ValueError, EOFError) as error:
        raise _not_as_published(path, f"it is no .npy array ({error})", source) from error
    if values.ndim != 2 or values.shape[1] != 17 or len(values) < 2:
        raise _not_as_published(path, f"its shape is {values.shape}, not (rows, 17)", source)
    return values


def _not_as_published(path: Path, reason: str, source: str) -> UserError:
    hint = f"Fetch it again from {source}."
    return UserError(f"{path} is not the published file: {reason}", hint=hint)
