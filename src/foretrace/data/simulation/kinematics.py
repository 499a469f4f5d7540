"""Where a robot's limbs are, from what was measured on it: MuJoCo's own kinematics of gymnasium's own model.

Shapes: T steps, S limbs, F features.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foretrace.data.simulation.robots import find_robot

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Limbs:
    """A moving robot as capsules in the plane in which it lives: x points ahead, z up, the ground is z = 0."""

    ends_m: DoubleArray  # both ends of each limb's axis at each step, as (x, z), (T, S, 2, 2)
    radius_m: DoubleArray  # of each capsule, (S,)
    far_side: tuple[bool, ...]  # which limbs a viewer on the right sees behind the others, S of them


def can_locate_limbs() -> bool:
    """Return whether the simulator is installed."""
    return bool(find_spec("mujoco") and find_spec("gymnasium"))


def locate_limbs(robot: str, states: npt.ArrayLike, *, dt_s: float) -> Limbs:
    """Return the limbs of a robot at each step of a run.

    Where the robot is along the ground is not measured: it begins at 0 and is the measured velocity's integral.

    Args:
        robot: ``halfcheetah`` or ``walker2d``.
        states: Measured or forecast features in their own units; what is not finite gives limbs that are not.
            Shape (T, F).
        dt_s: Time from one row to the next in seconds, > 0.

    Raises:
        UserError: If there is no such robot.
        ValueError: If the run does not have the robot's features.
    """
    import mujoco

    kind = find_robot(robot)
    num_features = len(kind.feature_names)
    run = np.asarray(states, np.float64)
    if run.ndim != 2 or run.shape[1] != num_features:
        raise ValueError(f"expected a run of shape (T, {num_features}), received {run.shape}")
    measured = num_features // 2  # positions; the velocities begin with that along the ground
    speed = run[:, measured]
    with np.errstate(invalid="ignore", over="ignore"):  # a forecast may run away
        way = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * dt_s)])[: len(run)]
    gymnasium = find_spec("gymnasium")  # found, not imported, which takes half a second
    assert gymnasium is not None
    assets = Path(str(gymnasium.origin)).parent / "envs" / "mujoco" / "assets"
    mujoco.set_mju_user_warning(lambda _: None)  # else its notices are in MUJOCO_LOG.TXT and on the terminal
    model = mujoco.MjModel.from_xml_path(str(assets / kind.model_file))
    data = mujoco.MjData(model)
    capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    half_lengths = model.geom_size[capsules, 1, None]  # (S, 1)
    ends = []
    for qpos in np.column_stack([way, run[:, :measured]]):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        centers = data.geom_xpos[capsules][:, [0, 2]]  # (S, 2)
        axes = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, [0, 2], 2]  # a capsule lies along its own z
        ends.append(np.stack([centers - half_lengths * axes, centers + half_lengths * axes], axis=1))
    names = [str(model.geom(int(geom)).name) for geom in capsules]
    return Limbs(
        ends_m=np.array(ends),
        radius_m=np.array(model.geom_size[capsules, 0]),
        far_side=tuple(name.removesuffix("_geom").endswith("_left") for name in names),
    )
