"""Where a robot's limbs are, from what was measured on it: MuJoCo's own kinematics of gymnasium's own model.

As in `foretrace.data.simulation.gaits`, MuJoCo works in a process of its own, because it writes ``MUJOCO_LOG.TXT`` into
the working directory and notices to the standard output.

Shapes: T steps, S limbs, F features.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foretrace.data.simulation.robots import find_robot

DoubleArray = npt.NDArray[np.float64]

MODEL_FILES = {"halfcheetah": "half_cheetah.xml", "walker2d": "walker2d_v5.xml"}  # of the -v5 environments
TIMEOUT_S = 60.0  # a second is usual


@dataclass(frozen=True, eq=False, kw_only=True)
class Limbs:
    """A moving robot as capsules in the plane in which it lives: x points ahead, z up, the ground is z = 0.

    Args:
        ends_m: Both ends of each limb's axis at each step, as (x, z). Shape (T, S, 2, 2).
        radius_m: Of each capsule. Shape (S,).
        names: One per limb, as the model has them.

    >>> legs = Limbs(ends_m=np.zeros((1, 2, 2, 2)), radius_m=np.full(2, 0.05), names=("leg", "leg_left"))
    >>> legs.far_side
    (False, True)
    """

    ends_m: DoubleArray
    radius_m: DoubleArray
    names: tuple[str, ...]

    @property
    def far_side(self) -> tuple[bool, ...]:
        """Which limbs a viewer on the right sees behind the others."""
        return tuple(name.endswith("_left") for name in self.names)


def locate_limbs(robot: str, runs: Sequence[npt.ArrayLike], *, dt_s: float) -> list[Limbs] | None:
    """Places the limbs of a robot at each step of one or more runs.

    Where the robot is along the ground is not measured: it begins at 0 and is the measured velocity's integral,
    so of two runs from one start, the faster is seen to get ahead.

    Args:
        robot: ``halfcheetah`` or ``walker2d``.
        runs: Measured or forecast features in their own units, each of shape (T, F). What is not finite gives
            limbs that are not.
        dt_s: Time from one row to the next in seconds, > 0.

    Returns:
        The limbs of each run, or None where the simulator is not installed.

    Raises:
        InputError: If there is no such robot.
        ValueError: If a run does not have the robot's features.
        RuntimeError: If MuJoCo failed.
    """
    num_features = len(find_robot(robot).feature_names)
    if not (find_spec("mujoco") and find_spec("gymnasium")):
        return None
    positions = [_positions(run, num_features=num_features, dt_s=dt_s) for run in runs]
    with tempfile.TemporaryDirectory() as scratch:
        found = _in_own_process(Path(scratch), robot, np.concatenate(positions))
    ends_m, radius_m = (found[name].astype(np.float64) for name in ("ends_m", "radius_m"))
    names = tuple(map(str, found["names"]))
    borders = np.cumsum([len(run) for run in positions])[:-1]
    return [Limbs(ends_m=part, radius_m=radius_m, names=names) for part in np.split(ends_m, borders)]


def _positions(run: npt.ArrayLike, *, num_features: int, dt_s: float) -> DoubleArray:
    """MuJoCo's ``qpos`` at each step: the way along the ground, then the measured positions. Shape (T, 9)."""
    states = np.asarray(run, dtype=np.float64)
    if states.ndim != 2 or states.shape[1] != num_features:
        raise ValueError(f"expected a run of shape (T, {num_features}), received {states.shape}")
    measured = num_features // 2  # positions; the velocities begin with that along the ground
    speed = states[:, measured]
    with np.errstate(invalid="ignore", over="ignore"):  # a forecast may run away
        way = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * dt_s)])[: len(states)]
    return np.column_stack([way, states[:, :measured]])


def _in_own_process(scratch: Path, robot: str, positions: DoubleArray) -> dict[str, npt.NDArray[np.generic]]:
    np.save(scratch / "positions.npy", positions)
    imports = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "foretrace.data.simulation.kinematics", robot],
        cwd=scratch,  # takes MUJOCO_LOG.TXT
        env={**os.environ, "PYTHONPATH": imports},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"MuJoCo could not place {robot}:\n{done.stderr.decode(errors='replace')}")
    with np.load(scratch / "limbs.npz") as found:
        return dict(found)


def _place(robot: str, folder: Path) -> None:
    """Reads ``positions.npy`` from a folder and writes ``limbs.npz`` into it."""
    import mujoco

    gymnasium = find_spec("gymnasium")
    assert gymnasium is not None
    assert gymnasium.origin is not None
    assets = Path(gymnasium.origin).parent / "envs" / "mujoco" / "assets"
    model = mujoco.MjModel.from_xml_path(str(assets / MODEL_FILES[robot]))
    data = mujoco.MjData(model)
    capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    half_lengths = model.geom_size[capsules, 1, None]  # (S, 1)
    ends = []
    for qpos in np.load(folder / "positions.npy"):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        centres = data.geom_xpos[capsules][:, [0, 2]]  # (S, 2)
        axes = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, [0, 2], 2]  # a capsule lies along its own z
        ends.append(np.stack([centres - half_lengths * axes, centres + half_lengths * axes], axis=1))
    names = np.array([model.geom(int(g)).name.removesuffix("_geom") for g in capsules])
    np.savez(folder / "limbs.npz", ends_m=np.array(ends), radius_m=model.geom_size[capsules, 0], names=names)


if __name__ == "__main__":
    _place(sys.argv[1], Path.cwd())
