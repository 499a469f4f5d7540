"""Jobs at work: so many at a time, and the next one as soon as a place becomes free.

A job is the command that a person would type, in a process of its own: on this machine, or wherever submitit brings
it. One that is killed takes no other along.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from foretrace.errors import UserError
from foretrace.workspace import CHECKOUT

POLL_S = 0.05
STOP_S = 25.0  # for jobs that were told to end: a store that is away takes 20 of them
SCRIPT = CHECKOUT / "src" / "train.py"  # an installed package has a console command instead
CONSOLE = Path(sys.executable).with_name("foretrace")
COMMAND = [sys.executable, str(SCRIPT)] if SCRIPT.exists() else [str(CONSOLE), "train"]
# The process turns into the command, so that signals reach it. SLURM's warning before the time is up is left
# unheard: the SIGTERM that follows ends a run with a checkpoint.
SHELL = ["/bin/sh", "-c", 'trap \'\' USR1 USR2; exec "$0" "$@"']

Task = TypeVar("Task")


class Submitted:
    """A `submitit.Job` with the methods of `subprocess.Popen`."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def poll(self) -> int | None:
        """Return None while it is at work, then -1: whether it was killed is for its run to say."""
        return -1 if self._job.done() else None

    def terminate(self) -> None:
        """Ask it to end, with a checkpoint."""
        if type(self._job).__name__ == "LocalJob":
            os.kill(int(self._job.job_id), signal.SIGTERM)  # by `cancel`, it would be killed within a second
        else:
            self._job.cancel(check=False)

    def kill(self) -> None:
        """End it at once."""
        self._job.cancel(check=False)


Worker = subprocess.Popen[bytes] | Submitted


def work_off(
    propose: Callable[[], Task | None],
    start: Callable[[Task], Worker],
    conclude: Callable[[Task, int], None],
    *,
    places: int,
) -> None:
    """Do tasks until there are none left, ``places`` at a time; none waits for another one to end.

    Whatever ends it early, a signal too, is raised once the tasks at work have ended.

    Args:
        propose: Gives the next task, or None. Asked as soon as a place is free.
        start: Begins a task.
        conclude: Takes a task that has ended, with its exit status; there may be a next one then.
        places: How many.
    """
    at_work: list[tuple[Task, Worker]] = []
    try:
        while True:
            while len(at_work) < places and (task := propose()) is not None:
                at_work.append((task, start(task)))
            if not at_work:
                return
            ended = [(task, worker) for task, worker in at_work if worker.poll() is not None]
            at_work = [one for one in at_work if one not in ended]
            for task, worker in ended:
                conclude(task, worker.poll() or 0)
            if not ended:
                time.sleep(POLL_S)
    finally:
        alive = [worker for _, worker in at_work if worker.poll() is None]
        for worker in alive:
            worker.terminate()
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and (alive := [one for one in alive if one.poll() is None]):
            time.sleep(POLL_S)
        for worker in alive:
            worker.kill()


def count_places(launcher: DictConfig, asked: int | None) -> int:
    """Return how many jobs are to be at work at once: ``hydra.sweeper.n_jobs``, or what Hydra's launcher says.

    Raises:
        UserError: If that is no number of jobs, or the launcher is another one.
    """
    kind = str(launcher.get("_target_")).rpartition(".")[2]
    if kind not in ("BasicLauncher", "JoblibLauncher", "LocalLauncher", "SlurmLauncher"):
        hint = "Use basic, joblib or submitit_slurm."
        raise UserError(f"hydra/launcher: {kind} is not supported", hint=hint)
    number = asked if asked is not None else launcher.get("n_jobs", launcher.get("array_parallelism", 1))
    if not isinstance(number, int) or isinstance(number, bool) or (number < 1 and number != -1):
        key = "hydra.launcher.n_jobs" if asked is None else "hydra.sweeper.n_jobs"
        raise UserError(f"{key}: must be a number of jobs, or -1 for one on each core, got {number}")
    return (os.cpu_count() or 1) if number == -1 else number


def starter(
    launcher: DictConfig, *, places: int, command: Sequence[str] = COMMAND
) -> Callable[[Sequence[str]], Worker]:
    """Return what starts a job from its overrides, which are added to the command, through Hydra's launcher.

    Of joblib's, the number of jobs alone counts. As many as there are places share this machine's cores.
    """
    if "submitit" not in str(launcher.get("_target_")):
        share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // places))}
        # In a group of its own, as Ctrl-C would come to it twice: from the terminal and from here.
        return lambda job: subprocess.Popen([*command, *job], env=share | os.environ, process_group=0)  # noqa: S603
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    settings: dict[str, Any] = OmegaConf.to_container(launcher, resolve=True)  # type: ignore[assignment]
    cluster = "slurm" if "Slurm" in settings.pop("_target_") else "local"
    executor = submitit.AutoExecutor(folder=settings.pop("submitit_folder"), cluster=cluster)
    settings.pop("max_num_timeout", None)  # a job whose time is up is taken up again by the sweep
    common = {field.name for field in fields(BaseQueueConf)}
    named = {name if name in common else f"{cluster}_{name}": value for name, value in settings.items()}
    executor.update_parameters(**named)
    return lambda job: Submitted(executor.submit(os.execv, SHELL[0], [*SHELL, *command, *job]))
