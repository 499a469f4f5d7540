"""From jobs to runs: with Hydra's launchers, one at a time here, several at once, or on a cluster."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from mlflow.exceptions import MlflowException

from foretrace.config import PROJECT_ROOT
from foretrace.sweeps.jobs import Job, brief, varied
from foretrace.sweeps.parent import Sweep

LOOK_EVERY_S, REFRESH_EVERY_S = 5.0, 30.0
SETTLE_S = 20.0  # for jobs that were told to end


def launch(
    sweep: Sweep, launcher: Launcher, jobs: Sequence[tuple[Job, list[str]]], *, batch: int | None = None
) -> None:
    """Runs jobs of a sweep and keeps the parent's tables up to date; a job that fails stops no other.

    Args:
        sweep: The sweep, within its block.
        launcher: Hydra's, set up.
        jobs: Each job with the overrides to run it by; see `Sweep.overrides`.
        batch: How many to hand to the launcher at once; None: one by one here, else all.
    """
    kind = type(launcher).__name__
    size = batch or (1 if kind == "BasicLauncher" else len(jobs))
    names = varied(job for job, _ in jobs) if sweep.jobs is None else varied(sweep.jobs)
    for first in range(0, len(jobs), size):
        part = jobs[first : first + size]
        if kind == "BasicLauncher":
            print(f"job      {first + 1} of {len(jobs)}: {brief(part[0][0], names)}", flush=True)
            returned = launcher.launch([overrides for _, overrides in part], initial_job_idx=first)
        else:
            returned = _launch_together(sweep, launcher, part, first, names)
        for (job, _), one in zip(part, returned, strict=True):
            _note(sweep, job, one)
        refresh(sweep)


def refresh(sweep: Sweep) -> None:
    """Brings the tables up to date; that a store is away ends no sweep."""
    try:
        sweep.refresh()
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        print(f"the sweep's tables wait for the tracking store ({reason})", file=sys.stderr)


def _launch_together(
    sweep: Sweep, launcher: Launcher, part: Sequence[tuple[Job, list[str]]], first: int, names: Sequence[str]
) -> Sequence[JobReturn]:
    apart = "submitit" in type(launcher).__module__  # what such jobs print, they print into files
    _share_cores(launcher, len(part))
    print(f"jobs     {first + 1} to {first + len(part)} with {type(launcher).__name__}", flush=True)
    with _watched(sweep, names, tell=apart):
        try:
            return launcher.launch([overrides for _, overrides in part], initial_job_idx=first)
        except BaseException:  # not to be dealt with here: whatever it is, no job may be left behind
            if apart:
                _cancel(launcher)
            _settle(sweep)
            raise


def _share_cores(launcher: Launcher, jobs: int) -> None:
    """Jobs at once on this machine get a share of its cores each; on a cluster the scheduler gives them out."""
    kind = type(launcher).__name__
    if kind == "JoblibLauncher":  # its workers get cores // n_jobs threads each, from joblib itself
        from joblib import effective_n_jobs  # type: ignore[import-untyped]

        settings = launcher.joblib  # type: ignore[attr-defined]
        settings["n_jobs"] = min(jobs, effective_n_jobs(int(settings["n_jobs"])))
    elif kind == "LocalLauncher":
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // jobs)))
    # What is started with another main script than ours must find our packages in this checkout.
    source = str(PROJECT_ROOT / "src")
    path = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one and one != source]
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *path])


@contextmanager
def _watched(sweep: Sweep, names: Sequence[str], *, tell: bool) -> Iterator[None]:
    """Refreshes the tables now and then, and tells what became of jobs, while the main thread only waits."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(sweep, names, tell, ended), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if tell:
            _tell(sweep, names, set())


def _watch(sweep: Sweep, names: Sequence[str], tell: bool, ended: threading.Event) -> None:
    told: set[str | None] = {child.run_id for child in sweep.children() if child.status == "FAILED"}
    waited = 0.0
    while not ended.wait(LOOK_EVERY_S):
        waited += LOOK_EVERY_S
        if tell:
            _tell(sweep, names, told)
        if waited >= REFRESH_EVERY_S:
            waited = 0.0
            refresh(sweep)


def _tell(sweep: Sweep, names: Sequence[str], told: set[str | None]) -> None:
    for child in sweep.children():
        if child.status == "FAILED" and child.run_id not in told:
            told.add(child.run_id)
            print(f"failed   {brief(child.job, names)}: {child.error}", file=sys.stderr, flush=True)


def _note(sweep: Sweep, job: Job, returned: JobReturn) -> None:
    if returned.status == JobStatus.FAILED:
        sweep.failures[job] = str(returned._return_value)  # the public property would raise it
    else:
        sweep.failures.pop(job, None)


def _cancel(launcher: Launcher) -> None:
    """Ends what was handed to submitit; its folders name the jobs."""
    import submitit

    folder = Path(str(launcher.params["submitit_folder"])).parent  # type: ignore[attr-defined]
    for record in folder.glob("*/*_submitted.pkl"):
        job = record.name.removesuffix("_submitted.pkl")
        if type(launcher).__name__ == "SlurmLauncher":
            submitit.SlurmJob(folder / "%j", job).cancel(check=False)
        elif not record.with_name(f"{job}_0_result.pkl").exists():
            with suppress(ProcessLookupError):
                os.kill(int(job), signal.SIGINT)  # a local job goes by the number of its process


def _settle(sweep: Sweep) -> None:
    """Waits for jobs that were told to end, so that none is left as running."""
    deadline = time.monotonic() + SETTLE_S
    while any(child.status == "RUNNING" for child in sweep.children()) and time.monotonic() < deadline:
        time.sleep(0.5)
        sweep.mend()
