"""A robot that moves: one random gait per episode, simulated in a process of its own.

`foretrace.data.simulation.generate` runs this module as a command, because MuJoCo writes ``MUJOCO_LOG.TXT`` into the
working directory and notices to the standard output: here both end where no user sees them. A process pool
would do that too, but its workers first import the caller's main script, with all that this imports, and
outlive a caller that was killed.

Shapes: T steps, F features, J joints.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.data.simulation.robots import Robot, find_robot

FREQUENCY_HZ = (0.5, 3.0)  # a stride in 2 s to 3 a second; faster is filtered out by the legs' inertia
DIVERGED = ("mjWARN_BADQPOS", "mjWARN_BADQVEL", "mjWARN_BADQACC")  # MuJoCo then starts over by itself


def draw_gait(rng: np.random.Generator, *, robot: Robot, steps: int, dt_s: float) -> npt.NDArray[np.float64]:
    """Draw the torques of a random gait: a sine per joint, with an amplitude, a frequency and a phase of its own.

    Each joint draws its amplitude from the robot's range, its frequency from 0.5–3 Hz and its phase from the
    full circle, all uniformly.

    Returns:
        Torques as shares of the largest one, in [-1, 1]. Shape (T, J).

    >>> draw_gait(np.random.default_rng(0), robot=find_robot("walker2d"), steps=100, dt_s=0.008).shape
    (100, 6)
    """
    joints = len(robot.joints)
    amplitude = rng.uniform(*robot.amplitude, size=joints)
    frequency_hz = rng.uniform(*FREQUENCY_HZ, size=joints)
    phase = rng.uniform(0, 2 * np.pi, size=joints)
    time_s = np.arange(steps)[:, None] * dt_s  # (T, 1)
    return amplitude * np.sin(2 * np.pi * frequency_hz * time_s + phase)


def simulate_episode(
    env: Any,  # gymnasium says nothing about its attributes
    *,
    robot: Robot,
    seed: int,
    episode: int,
    steps: int,
) -> npt.NDArray[np.float32]:
    """Simulate one episode; gait and initial state depend on ``seed`` and ``episode`` alone.

    Args:
        env: The robot's environment, without wrappers.
        robot: What moves in it.
        seed: Of the data set, >= 0.
        episode: Number of the episode in it.
        steps: Simulated steps, T.

    Returns:
        The first state and the one after each step. Shape (T + 1, F).

    Raises:
        ArithmeticError: If the simulation diverged.
    """
    import mujoco

    rng = np.random.default_rng([seed, episode])
    limits = env.action_space
    torques = draw_gait(rng, robot=robot, steps=steps, dt_s=env.dt)
    rows = [env.reset(seed=int(rng.integers(2**31)))[0]]
    rows += [env.step(np.clip(torque, limits.low, limits.high))[0] for torque in torques]
    if any(env.data.warning[getattr(mujoco.mjtWarning, name)].number for name in DIVERGED):
        raise ArithmeticError(f"episode {episode} of seed {seed} diverged")
    return np.asarray(rows, dtype=np.float32)


def fill(path: Path, *, robot: str, steps: int, frame_skip: int, seed: int, episodes: Iterable[int]) -> None:
    """Simulate episodes into an array on disk, and report the time step in s as each is done.

    Args:
        path: An ``.npy`` file of shape (episodes * (T + 1), F), float32.
        robot: Name of the robot.
        steps: Steps per episode, T.
        frame_skip: Physics steps per step.
        seed: Of the data set.
        episodes: Numbers of the episodes to simulate.
    """
    # The caller listens on what was the standard output; from here on MuJoCo and Python write into the void.
    with os.fdopen(os.dup(1), "w", buffering=1) as report, Path(os.devnull).open("w") as void:
        os.dup2(void.fileno(), 1)
        import gymnasium

        kind = find_robot(robot)
        made = gymnasium.make(
            kind.env_id, frame_skip=frame_skip, disable_env_checker=True, **kind.env_options
        )
        env: Any = made.unwrapped  # the wrappers check and limit what needs neither
        values = np.load(path, mmap_mode="r+")
        for episode in episodes:
            rows = simulate_episode(env, robot=kind, seed=seed, episode=episode, steps=steps)
            values[episode * len(rows) : (episode + 1) * len(rows)] = rows
            print(
                float(env.dt), file=report
            )  # if the caller is gone, this breaks the pipe and ends the process


if __name__ == "__main__":
    path, robot, *numbers = sys.argv[1:]
    steps, frame_skip, seed, *chosen = map(int, numbers)
    fill(Path(path), robot=robot, steps=steps, frame_skip=frame_skip, seed=seed, episodes=range(*chosen))
