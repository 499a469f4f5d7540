"""From jobs to runs: with Hydra's launchers, one at a time here, several at once, or on a cluster."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from mlflow.exceptions import MlflowException

from foretrace.errors import Interrupted
from foretrace.sweeps import submitted
from foretrace.sweeps.jobs import Job, brief, varied
from foretrace.sweeps.parent import Sweep
from foretrace.workspace import CHECKOUT

LOOK_EVERY_S, REFRESH_EVERY_S = 5.0, 30.0
SETTLE_S = 20.0  # for jobs that were told to end


def launch(
    sweep: Sweep,
    launcher: Launcher,
    jobs: Sequence[tuple[Job, list[str]]],
    *,
    batch: int | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Runs jobs of a sweep and keeps the parent's tables up to date; a job that fails stops no other.

    Args:
        sweep: The sweep, within its block.
        launcher: Hydra's, set up.
        jobs: Each job with the overrides to run it by; see `Sweep.overrides`.
        batch: How many to hand to the launcher at once; None: one by one here, else all.
        names: The settings that are searched, in a search; it says itself what it tries.
    """
    kind = type(launcher).__name__
    size = batch or (1 if kind == "BasicLauncher" else max(1, len(jobs)))
    is_search = names is not None
    names = varied(sweep.jobs or []) if names is None else names
    for first in range(0, len(jobs), size):
        part = jobs[first : first + size]
        if kind == "BasicLauncher":
            if not is_search:
                print(f"job      {first + 1} of {len(jobs)}: {brief(part[0][0], names)}", flush=True)
            returned = launcher.launch([overrides for _, overrides in part], initial_job_idx=first)
        else:
            returned = _launch_together(sweep, launcher, part, first, names)
        for (job, _), one in zip(part, returned, strict=False):
            _note(sweep, job, one)
        refresh(sweep)


def refresh(sweep: Sweep) -> None:
    """Brings the tables up to date; that a store is away ends no sweep."""
    with _outages_survived():
        sweep.refresh()


@contextmanager
def _outages_survived() -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        print(f"the sweep's tables wait for the tracking store ({reason})", file=sys.stderr)


def _launch_together(
    sweep: Sweep, launcher: Launcher, part: Sequence[tuple[Job, list[str]]], first: int, names: Sequence[str]
) -> Sequence[JobReturn]:
    """Nothing is returned if the launcher itself failed, as when a job was killed."""
    apart = submitted.is_by_submitit(launcher)  # what such jobs print, they print into files
    _share_cores(launcher, len(part))
    print(f"jobs     {first + 1} to {first + len(part)} with {type(launcher).__name__}", flush=True)
    with _watched(sweep, names, tell=apart):
        try:
            returned = launcher.launch([overrides for _, overrides in part], initial_job_idx=first)
        except Interrupted:
            if apart:
                submitted.cancel(launcher)
            _settle(sweep)
            raise
        except Exception as error:  # a launcher's own, of whatever kind
            reason = next(iter(str(error).strip().splitlines()), "")
            print(f"launcher {type(error).__name__}: {reason}", file=sys.stderr, flush=True)
            if apart:  # it looks at one job after the other: those behind the one that was killed go on
                submitted.wait(launcher)
            _settle(sweep)
            returned = []
    if apart:
        _tell_of_unbegun(sweep, part, returned, names)
    return returned


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
    source = str(CHECKOUT / "src")
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


def _watch(sweep: Sweep, names: Sequence[str], tell: bool, ended: threading.Event) -> None:
    told: set[tuple[str, str]] = set()
    with _outages_survived():
        told = _ended(sweep)
    due = time.monotonic() + REFRESH_EVERY_S
    while not ended.wait(LOOK_EVERY_S):
        with _outages_survived():
            if tell:
                _tell(sweep, names, told)
            if time.monotonic() > due:
                sweep.refresh()
                due = time.monotonic() + REFRESH_EVERY_S
    if tell:
        _tell(sweep, names, told)


def _ended(sweep: Sweep) -> set[tuple[str, str]]:
    ended = [child for child in sweep.children() if child.status not in ("RUNNING", "SCHEDULED")]
    return {(child.run_id, child.status) for child in ended if child.run_id is not None}


def _tell(sweep: Sweep, names: Sequence[str], told: set[tuple[str, str]]) -> None:
    """Says which jobs have ended since it was last asked."""
    new = _ended(sweep) - told
    told |= new
    for child in sweep.children():
        if (child.run_id, child.status) not in new:
            continue
        line = f"{child.status.lower():<8} {brief(child.job, names)}: run {child.run_id}"
        failed = child.status == "FAILED"
        print(line + f": {child.error}" * failed, file=sys.stderr if failed else sys.stdout, flush=True)


def _tell_of_unbegun(
    sweep: Sweep, part: Sequence[tuple[Job, list[str]]], returned: Sequence[JobReturn], names: Sequence[str]
) -> None:
    begun = {child.job for child in sweep.children() if child.run_id is not None}
    for (job, _), one in zip(part, returned, strict=False):
        if one.status == JobStatus.FAILED and job not in begun:
            print(f"failed   {brief(job, names)}: {one._return_value}", file=sys.stderr, flush=True)


def _note(sweep: Sweep, job: Job, returned: JobReturn) -> None:
    if returned.status == JobStatus.FAILED:
        sweep.failures[job] = str(returned._return_value)  # the public property would raise it
    else:
        sweep.failures.pop(job, None)


def _settle(sweep: Sweep) -> None:
    """Waits for jobs that were told to end, so that none is left as running."""
    deadline = time.monotonic() + SETTLE_S
    while any(child.status == "RUNNING" for child in sweep.children()) and time.monotonic() < deadline:
        time.sleep(0.5)
        sweep.mend()
