"""A sweep whose jobs are known: begin it or go on with it, run what is missing, and say what became of it."""

import sys
from collections.abc import Sequence

from hydra.plugins.launcher import Launcher

from foretrace.config import TrainConfig
from foretrace.sweeps import presentation
from foretrace.sweeps.jobs import Job, brief, varied
from foretrace.sweeps.launching import launch
from foretrace.sweeps.parent import Sweep, check_parts
from foretrace.workspace import Workspace

FAILED_STATUS = 1  # exit status of a sweep of which a job failed


class UnfinishedError(RuntimeError):
    """Jobs of a sweep failed, or were left out."""


def begin(jobs: Sequence[Job], checked: Sequence[TrainConfig], *, command: Sequence[str]) -> Sweep:
    """Makes the parent run of a new sweep.

    Args:
        jobs: Overrides of every job.
        checked: Settings of every job.
        command: What the user typed after ``-m``, for the record.

    Raises:
        InputError: If there is no such optimiser or simulator, or the store cannot be reached.
    """
    check_parts(checked)
    return Sweep.begin(jobs, tracking=checked[0].tracking, workspace=Workspace.default(), command=command)


def reopen(run_id: str, *, uri: str | None) -> Sweep:
    """Goes on with a sweep, or with a search: that one knows no jobs.

    Raises:
        InputError: If there is no such sweep.
    """
    return Sweep.reopen(run_id, uri=uri, workspace=Workspace.default())


def run(sweep: Sweep, launcher: Launcher, *, batch: int | None = None) -> int:
    """Does what is missing of a sweep; returns the exit status.

    Args:
        sweep: Made by `begin` or `reopen`.
        launcher: Hydra's, set up.
        batch: How many jobs to hand to the launcher at once; see `launch`.
    """
    try:
        with sweep:
            sweep.mend()
            launch(sweep, launcher, _missing(sweep), batch=batch)
            left = [child for child in sweep.children() if not child.is_done]
            if left:
                raise UnfinishedError(presentation.verdict(sweep.children(), sweep.failures))
    except UnfinishedError:
        return FAILED_STATUS
    finally:
        children = sweep.children()
        if not all(child.is_done for child in children):
            print(f"what is missing: python src/train.py sweep.resume={sweep.id}", flush=True)
        told = presentation.verdict(children, sweep.failures)
        print(f"sweep={sweep.id} status={sweep.status} {told}", flush=True)
    return 0


def _missing(sweep: Sweep) -> list[tuple[Job, list[str]]]:
    children = sweep.children()
    names = varied(child.job for child in children)
    for child in children:
        if child.at_work:
            reason = "is at work in another process, and left alone"
            print(f"job      {brief(child.job, names)}: run {child.run_id} {reason}", file=sys.stderr)
    left = [child for child in children if not child.is_done and not child.at_work]
    known = f" left of {len(children)}" if len(left) < len(children) else ""
    print(f"sweep    {sweep.id}: {len(left)} jobs{known}", flush=True)
    resumed = {child.job: child.run_id if child.has_checkpoint else None for child in left}
    return [(job, sweep.overrides(job, resume=run_id)) for job, run_id in resumed.items()]
