"""Published recordings of robots, with the very split and pairs of the papers that report errors on them.

Users fetch the files from the papers' repositories; what they got is compared with the checksums that lie in
``checksums/`` beside this module.

Shapes: T rows of a file, n kept pairs of it, F features.
"""

import hashlib
import io
from importlib import resources
from pathlib import Path

import numpy as np

from foretrace.data.sequences import FloatArray, Sequences
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
    if absent := _absent(folder, test_names):
        missing = (
            f"{len(absent)} of 60 test files ({_few(absent)}) are not in {folder}; see {WALKER2D_SOURCE}."
        )
        return Splits(train=train, valid=valid, test=None, test_missing=missing)
    return Splits(train=train, valid=valid, test=part(test_names))


def _folder(root: Path, inner: str, names: list[str], source: str) -> Path:
    """Return the folder that holds the files, all of which must be there."""
    folder = root / inner if (root / inner).is_dir() else root
    if absent := _absent(folder, names):
        lacking = f"lacks {len(absent)} of {len(names)} published files ({_few(absent)})"
        problem = lacking if folder.is_dir() else "is no folder"
        raise UserError(f"data.root: {folder} {problem}", hint=f"They are published in {source}.")
    return folder


def _absent(folder: Path, names: list[str]) -> list[str]:
    return sorted(name for name in names if not (folder / name).is_file())


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _read(folder: Path, names: list[str], protocol: str, source: str) -> list[FloatArray]:
    """Read files after comparing their checksums, where these are known; each (T, F)."""
    checksums = (
        resources.files("foretrace.data").joinpath("checksums", f"{protocol}.sha256").read_text("ascii")
    )
    known = {file: checksum for checksum, file in (line.split() for line in checksums.splitlines())}
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
