"""The simulated robots: what is measured on them, and in which environment."""

from dataclasses import dataclass

from foretrace.errors import UserError, suggest


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


def find_robot(name: str) -> Robot:
    """Return a robot by its name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in ROBOTS:
        raise UserError(f"data.source: no robot {name!r}", hint=suggest(name, ROBOTS))
    return ROBOTS[name]
