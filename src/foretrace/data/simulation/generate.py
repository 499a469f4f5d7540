"""Gaits of simulated robots: made once by MuJoCo, on as many threads as there are cores, and kept.

Shapes: E episodes, T steps, F features, J joints.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from foretrace.data.progress import track
from foretrace.data.sequences import FloatArray, Sequences
from foretrace.data.simulation.robots import ROBOTS, Robot
from foretrace.errors import UserError
from foretrace.workspace import atomic_write

RECIPE_VERSION = 1  # raise it when the same settings would give other values
FREQUENCY_HZ = (0.5, 3.0)  # a stride in 2 s to 3 a second; faster is filtered out by the legs' inertia


def simulate(
    robot: str,
    *,
    episodes: int,
    steps: int,
    frame_skip: int,
    seed: int,
    cache: Path,
) -> Sequences:
    """Return episodes of a robot, each with a random gait of its own.

    The values depend on the arguments and on the versions of gymnasium, MuJoCo and numpy, not on the number
    of threads. They are kept in ``cache`` and simulated again only if they are missing or damaged; of
    several callers at once, one simulates and the others wait.

    Args:
        robot: ``halfcheetah`` or ``walker2d``.
        episodes: Number of episodes, E.
        steps: Simulated steps per episode, T; an episode has T + 1 rows, with the first state.
        frame_skip: Physics steps (halfcheetah: 10 ms, walker2d: 2 ms) per row.
        seed: Of gaits and first states, >= 0.
        cache: Folder in which data are kept, each under a name that says what they were made from.

    Raises:
        UserError: If the simulator is not installed or ``cache`` cannot be written.
        ArithmeticError: If an episode diverged.
    """
    kind, versions = ROBOTS[robot], installed_versions()
    numbers = {"episodes": episodes, "steps": steps, "frame_skip": frame_skip, "seed": seed}
    recipe = {"robot": robot, "env_id": kind.env_id, **numbers, "recipe": RECIPE_VERSION, **versions}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    file = cache / f"{robot}-{digest[:16]}.npy"
    try:
        if not _is_whole(file, recipe):
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):
                if not _is_whole(file, recipe):  # else another process made it while this one waited
                    _make(file, kind, recipe, **numbers)
    except OSError as error:
        problem = f"simulated data cannot be kept in {cache} ({error.strerror or error})"
        raise UserError(problem, hint="Free some space, or set FORETRACE_HOME to another folder.") from error
    # Copy-on-write: may be larger than memory, is writable as torch wants it, and spares the file.
    values: FloatArray = np.asarray(np.load(file, mmap_mode="c"))
    ends = np.arange(1, episodes + 1, dtype=np.int64) * (steps + 1)
    names = tuple(f"gait {episode}" for episode in range(episodes))
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    return Sequences(
        values=values,
        bounds=np.stack([ends - (steps + 1), ends], axis=1),
        feature_names=kind.feature_names,
        units=kind.units,
        episode_names=names,
        recordings=names,
        dt_s=kind.physics_step_s * frame_skip,
        covariates=np.zeros((len(values), 0), np.float32),
        origin=f"{robot} ({kind.env_id}; {used}; recipe {digest})",
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of what the values depend on; quick, for it imports nothing.

    Raises:
        UserError: If the simulator is not installed.
    """
    try:
        return {name: version(name) for name in ("gymnasium", "mujoco", "numpy")}
    except PackageNotFoundError as error:
        problem = f"data.source: a simulated robot needs the package {error.name}"
        raise UserError(problem, hint='Run: pip install "foretrace[simulation]"') from error


def draw_gait(rng: np.random.Generator, *, robot: Robot, steps: int, dt_s: float) -> npt.NDArray[np.float64]:
    """Draw the torques of a random gait: a sine per joint, with an amplitude, a frequency and a phase of its own.

    Each joint draws its amplitude from the robot's range, its frequency from 0.5–3 Hz and its phase from the
    full circle, all uniformly.

    Returns:
        Torques as shares of the largest one, in [-1, 1]. Shape (T, J).

    >>> draw_gait(np.random.default_rng(0), robot=ROBOTS["walker2d"], steps=100, dt_s=0.008).shape
    (100, 6)
    """
    joints = len(robot.joints)
    amplitude = rng.uniform(*robot.amplitude, size=joints)
    frequency_hz = rng.uniform(*FREQUENCY_HZ, size=joints)
    phase = rng.uniform(0, 2 * np.pi, size=joints)
    time_s = np.arange(steps)[:, None] * dt_s  # (T, 1)
    return amplitude * np.sin(2 * np.pi * frequency_hz * time_s + phase)


def _is_whole(file: Path, recipe: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(file.with_suffix(".json").read_bytes()) == _note(file, recipe))
    except (FileNotFoundError, ValueError):
        return False


def _note(file: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return what is written beside the values."""
    with file.open("rb") as values:
        return {"recipe": recipe, "values_sha256": hashlib.file_digest(values, "sha256").hexdigest()}


def _make(file: Path, robot: Robot, recipe: dict[str, Any], *, episodes: int, **numbers: int) -> None:
    """Write the values, then the note without which they do not count."""
    shape = (episodes * (numbers["steps"] + 1), len(robot.feature_names))
    with atomic_write(file) as aside, aside.open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for rows in _roll_out(robot, episodes=episodes, **numbers):
            out.write(rows.astype("<f4").tobytes())
    with atomic_write(file.with_suffix(".json")) as aside:
        aside.write_text(json.dumps(_note(file, recipe), indent=2))


def _roll_out(
    robot: Robot, *, episodes: int, steps: int, frame_skip: int, seed: int
) -> Iterator[npt.NDArray[np.float64]]:
    """Simulate as many episodes at a time as there are cores; shape (cores or fewer, T + 1, F).

    Gymnasium's environment gives the model and the first state; the steps are MuJoCo's own rollout. An episode
    depends on the seed and its number alone.
    """
    import gymnasium
    import mujoco
    from mujoco import rollout

    mujoco.set_mju_user_warning(lambda _: None)  # else its notices are in MUJOCO_LOG.TXT and on the terminal
    made = gymnasium.make(robot.env_id, frame_skip=frame_skip, disable_env_checker=True)
    env: Any = made.unwrapped  # gymnasium says nothing about its attributes
    model, everything = env.model, mujoco.mjtState.mjSTATE_FULLPHYSICS
    # `os.sched_getaffinity` counts the cores that this process may use, but only Linux has it.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = [mujoco.MjData(model) for _ in range(min(cores, episodes))]
    for first in track(range(0, episodes, len(threads)), f"simulating, {len(threads)} episodes at a time"):
        starts, solver_starts, torques = [], [], []
        for episode in range(first, min(first + len(threads), episodes)):
            rng = np.random.default_rng([seed, episode])
            gait = draw_gait(rng, robot=robot, steps=steps, dt_s=env.dt)
            env.reset(seed=int(rng.integers(2**31)))
            start = np.empty(mujoco.mj_stateSize(model, everything))
            mujoco.mj_getState(model, env.data, start, everything)
            starts.append(start)
            solver_starts.append(env.data.qacc_warmstart.copy())
            torques.append(gait.repeat(frame_skip, axis=0))
        states, _ = rollout.rollout(
            model, threads, np.array(starts), np.array(torques), initial_warmstart=np.array(solver_starts)
        )
        states = np.concatenate([np.array(starts)[:, None], states[:, frame_skip - 1 :: frame_skip]], axis=1)
        time_s, positions, velocities = np.split(
            states[..., : 1 + model.nq + model.nv], [1, 1 + model.nq], axis=-1
        )
        # MuJoCo starts over where it diverges, and the rollout ends there.
        stopped = time_s[:, -1, 0] < (steps - 0.5) * env.dt
        if stopped.any():
            raise ArithmeticError(f"episode {first + int(stopped.argmax())} of seed {seed} diverged")
        velocities = velocities.clip(-robot.largest_velocity, robot.largest_velocity)
        yield np.concatenate([positions[..., 1:], velocities], axis=-1)
