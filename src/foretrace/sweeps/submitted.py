"""Jobs that were handed to submitit, which its launcher for Hydra keeps to itself; its folders name them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

RECORD = "_submitted.pkl"
END_S = 8.0  # for a job to end after it was told to
LOOK_EVERY_S = 1.0


def is_by_submitit(launcher: Launcher) -> bool:
    """Whether a launcher hands its jobs to submitit, and so to other processes with files for their output."""
    return "submitit" in type(launcher).__module__


def cancel(launcher: Launcher) -> None:
    """Ends all jobs: on a cluster by its scheduler, here by signals."""
    if _is_slurm(launcher):
        for job in _slurm_jobs(launcher):
            job.cancel(check=False)
        return
    # While a job starts, submitit lets SIGTERM pass unheeded. SIGINT is followed by SIGKILL after a second.
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        for process in filter(_is_alive, _processes(launcher)):
            os.kill(process, number)
        if _wait(lambda: not any(map(_is_alive, _processes(launcher))), END_S):
            return


def wait(launcher: Launcher) -> None:
    """Waits until all jobs have ended in whatever way."""
    if _is_slurm(launcher):
        _wait(lambda: all(job.done() for job in _slurm_jobs(launcher)))
    else:
        _wait(lambda: not any(map(_is_alive, _processes(launcher))))


def _is_slurm(launcher: Launcher) -> bool:
    return type(launcher).__name__ == "SlurmLauncher"


def _names(launcher: Launcher) -> list[str]:
    return [record.name.removesuffix(RECORD) for record in _folder(launcher).glob(f"*/*{RECORD}")]


def _folder(launcher: Launcher) -> Path:
    return Path(str(launcher.params["submitit_folder"])).parent  # type: ignore[attr-defined]


def _slurm_jobs(launcher: Launcher) -> list[Any]:
    import submitit

    return [submitit.SlurmJob(_folder(launcher) / "%j", name) for name in _names(launcher)]


def _processes(launcher: Launcher) -> list[int]:
    return [int(name) for name in _names(launcher)]  # a local job goes by the number of its process


def _is_alive(process: int) -> bool:
    """Whether a child of this process is at work; one that has ended is cleared away."""
    try:
        return os.waitpid(process, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _wait(reached: Callable[[], bool], seconds: float = float("inf")) -> bool:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
