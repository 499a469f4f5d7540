"""Simulated robots: made once, in as many processes as there are cores, and kept.

Shapes: E episodes, T steps, F features.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from foretrace.data.sequences import FloatArray, Sequences
from foretrace.data.simulation.robots import find_robot
from foretrace.errors import UserError

RECIPE_VERSION = 1  # raise it when the same settings would give other values
MIN_STEPS_PER_WORKER = 5_000  # a process takes half a second to start, about as long as so many steps

Progress = Callable[[int, int], None]
Recipe = dict[str, str | int]


def simulate(
    robot: str,
    *,
    episodes: int,
    steps: int,
    frame_skip: int,
    seed: int,
    cache: Path,
    progress: Progress | None = None,
) -> Sequences:
    """Return episodes of a robot, each with a random gait of its own (`foretrace.data.simulation.gaits`).

    The values depend on the arguments and on the versions of gymnasium, MuJoCo and numpy, not on the number
    of processes. They are kept in ``cache`` and simulated again only if they are missing or damaged; of
    several callers at once, one simulates and the others wait.

    Args:
        robot: ``halfcheetah`` or ``walker2d``.
        episodes: Number of episodes, E.
        steps: Simulated steps per episode, T; an episode has T + 1 rows, with the first state.
        frame_skip: Physics steps (halfcheetah: 10 ms, walker2d: 2 ms) per row.
        seed: Of gaits and first states, >= 0.
        cache: Folder in which data are kept, each under a name that says what they were made from.
        progress: Told how many episodes of how many have been simulated.

    Raises:
        UserError: If the simulator is not installed or ``cache`` cannot be written.
        RuntimeError: If the simulator failed.
    """
    kind = find_robot(robot)
    recipe = _recipe(robot, episodes=episodes, steps=steps, frame_skip=frame_skip, seed=seed)
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    folder = cache / f"{robot}-{digest[:16]}"
    shape = (episodes * (steps + 1), len(kind.feature_names))
    try:
        values, dt_s = _read(folder, recipe, shape) or _make_once(folder, recipe, shape, progress)
    except OSError as error:
        problem = f"simulated data cannot be kept in {cache} ({error.strerror or error})"
        raise UserError(problem, hint="Free some space, or set FORETRACE_HOME to another folder.") from error
    ends = np.arange(1, episodes + 1, dtype=np.int64) * (steps + 1)
    names = tuple(f"gait {episode}" for episode in range(episodes))
    versions = ", ".join(f"{name} {recipe[name]}" for name in ("gymnasium", "mujoco", "numpy"))
    return Sequences(
        values=values,
        bounds=np.stack([ends - (steps + 1), ends], axis=1),
        feature_names=kind.feature_names,
        units=kind.units,
        episode_names=names,
        recordings=names,
        dt_s=dt_s,
        covariates=np.zeros((len(values), 0), np.float32),
        origin=f"{robot} ({kind.env_id}; {versions}; recipe {digest})",
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


def _recipe(robot: str, **numbers: int) -> Recipe:
    env_id = find_robot(robot).env_id
    return {"robot": robot, "env_id": env_id, **numbers, "recipe": RECIPE_VERSION, **installed_versions()}


def _read(folder: Path, recipe: Recipe, shape: tuple[int, int]) -> tuple[FloatArray, float] | None:
    """Return values and time step, or None if they are not there whole and unharmed."""
    try:
        note: dict[str, Any] = json.loads((folder / "recipe.json").read_bytes())
        if note["recipe"] != recipe or note["values_sha256"] != _sha256(folder / "values.npy"):
            return None
        # Copy-on-write: may be larger than memory, is writable as torch wants it, and spares the file.
        values: FloatArray = np.asarray(np.load(folder / "values.npy", mmap_mode="c"))
        return (values, float(note["dt_s"])) if values.shape == shape else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _make_once(
    folder: Path, recipe: Recipe, shape: tuple[int, int], progress: Progress | None
) -> tuple[FloatArray, float]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if found := _read(folder, recipe, shape):  # another process made it while this one waited
            return found
        with _whole_or_nothing(folder) as partial:
            _make(partial, recipe, shape, progress)
        made = _read(folder, recipe, shape)
    assert made is not None, f"{folder} was changed as soon as it was written"
    return made


@contextlib.contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that gets its name at the end, and vanishes if anything goes wrong."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed; the lock says that it is gone
    partial.mkdir()
    try:
        yield partial
        for path in (*partial.iterdir(), partial):
            _to_disk(path)
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        partial.rename(folder)
        _to_disk(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make(partial: Path, recipe: Recipe, shape: tuple[int, int], progress: Progress | None) -> None:
    values, scratch = (partial / "values.npy").resolve(), partial / "scratch"
    np.save(values, np.zeros(shape, np.float32))  # takes its space now: a full disk is an error, not a SIGBUS
    scratch.mkdir()
    dt_s = _run_workers(values, recipe, scratch, progress)
    shutil.rmtree(scratch)
    note = {"recipe": recipe, "dt_s": dt_s, "values_sha256": _sha256(values)}
    (partial / "recipe.json").write_text(json.dumps(note, indent=2))


def _run_workers(values: Path, recipe: Recipe, scratch: Path, progress: Progress | None) -> float:
    """Fill the array in several processes, which report each episode on one pipe; returns the time step."""
    episodes = int(recipe["episodes"])
    count = _num_workers(episodes, int(recipe["steps"]))
    reading, writing = os.pipe()
    workers: list[subprocess.Popen[bytes]] = []
    done, dt_s = 0, 0.0
    with open(reading) as reports:  # noqa: PTH123 - a pipe has no path
        try:
            try:
                for first in range(count):
                    chosen = range(first, episodes, count)
                    workers.append(_start_worker(values, recipe, chosen, scratch=scratch, report=writing))
            finally:
                os.close(writing)  # the workers hold it now: it ends when the last one does
            for done, line in enumerate(reports, start=1):
                dt_s = float(line)
                if progress is not None:
                    progress(done, episodes)
            failed = [worker for worker in workers if worker.wait()]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    if failed or done != episodes:
        said = "\n".join(path.read_text(errors="replace") for path in sorted(scratch.glob("*.err")))
        raise RuntimeError(f"the simulation of {recipe['robot']} failed:\n{said}")
    return dt_s


def _start_worker(
    values: Path, recipe: Recipe, episodes: range, *, scratch: Path, report: int
) -> subprocess.Popen[bytes]:
    numbers = [recipe[name] for name in ("steps", "frame_skip", "seed")]
    numbers += [episodes.start, episodes.stop, episodes.step]
    command = [
        sys.executable,
        "-m",
        "foretrace.data.simulation.gaits",
        str(values),
        str(recipe["robot"]),
        *map(str, numbers),
    ]
    imports = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    with (scratch / f"{episodes.start}.err").open("wb") as errors:
        return subprocess.Popen(  # noqa: S603 - our own module
            command,
            cwd=scratch,  # takes MUJOCO_LOG.TXT
            env={**os.environ, "PYTHONPATH": imports},
            stdin=subprocess.DEVNULL,
            stdout=report,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches the caller alone, and that ends the workers
        )


def _num_workers(episodes: int, steps: int) -> int:
    # `os.sched_getaffinity` counts the cores that this process may use, but only Linux has it.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores, episodes, episodes * steps // MIN_STEPS_PER_WORKER))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
