"""The simulated robots: what is measured on them, in which environment, and where their limbs then are.

Shapes: T steps, S limbs, F features.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Robot:
    """A planar robot of gymnasium's MuJoCo suite, with 17 measured features.

    The root's horizontal position is not among them: it grows without limit and says nothing about the gait.

    Args:
        env_id: Name under which gymnasium knows the environment.
        model_file: The environment's model, among gymnasium's assets.
        joints: Driven joints, in the order in which they are measured and driven.
        amplitude: Smallest and largest swing of a joint in a random gait, as shares of the largest torque.
        physics_step_s: Time step of the physics in seconds.
        largest_velocity: Where the environment cuts velocities off.

    >>> ROBOTS["halfcheetah"].feature_names[7:10], ROBOTS["halfcheetah"].units[7:10]
    (('ffoot', 'rootx_vel', 'rootz_vel'), ('rad', 'm/s', 'm/s'))
    """

    env_id: str
    model_file: str
    joints: tuple[str, ...]
    amplitude: tuple[float, float]
    physics_step_s: float
    largest_velocity: float = float("inf")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name positions, then velocities (``_vel``), in the order in which the environment gives them."""
        positions = ("rootz", "rooty", *self.joints)
        return positions + tuple(f"{name}_vel" for name in ("rootx", *positions))

    @property
    def units(self) -> tuple[str, ...]:
        """Return the unit of each feature: height in m, angles in rad, and both per second."""
        positions = ("m", *("rad",) * (1 + len(self.joints)))
        return (*positions, "m/s", *(f"{unit}/s" for unit in positions))


ROBOTS = {
    "halfcheetah": Robot(
        env_id="HalfCheetah-v5",
        model_file="half_cheetah.xml",
        joints=("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
        physics_step_s=0.01,
        amplitude=(0.2, 1.0),  # from a gentle to a full swing; one in six ends on its back and kicks on
    ),
    "walker2d": Robot(
        env_id="Walker2d-v5",
        model_file="walker2d_v5.xml",
        joints=("thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left"),
        # It falls at any swing. More than this whirls it about, with up to a fifth of the velocities at ±10,
        # where the environment cuts them off; much less leaves it lying still.
        amplitude=(0.05, 0.3),
        physics_step_s=0.002,
        largest_velocity=10,
    ),
}


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
    """
    import mujoco

    kind = ROBOTS[robot]
    run = np.asarray(states, np.float64)
    measured = len(kind.feature_names) // 2  # positions; the velocities begin with that along the ground
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
