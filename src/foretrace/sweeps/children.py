"""The jobs of a sweep as the tracking store knows them: one child for each, whichever of its runs counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from foretrace.errors import DivergedError, UserError
from foretrace.sweeps.jobs import Job, own
from foretrace.tracking.recovery import Process
from foretrace.tracking.stored import StoredRun

VALID = "val/mse"
CHECKPOINTS = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt")  # a kill may come between two of them


@dataclass(frozen=True)
class Child:
    """One job of a sweep, with the run that counts for it."""

    job: Job  # its own overrides
    run_id: str | None = None  # None if it was never begun
    # Else MLflow's word for the run; in a search also PRUNED, and DIVERGED: a result.
    status: str = "NOT STARTED"
    trial: int | None = None  # of a search
    # Last values; of val/mse the lowest, as weights are kept.
    metrics: dict[str, float] = field(default_factory=dict)
    has_checkpoint: bool = False
    at_work: bool = False  # a process is at work on it, or may be, on another host
    duration_s: float = nan  # from its first beginning to its last end
    error: str = ""  # what it failed of, in one line

    @property
    def key(self) -> Job | int:
        """What identifies it: its job in a grid, the trial's number in a search."""
        return self.job if self.trial is None else self.trial

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.status in ("FINISHED", "PRUNED", "DIVERGED")

    @property
    def has_ended(self) -> bool:
        """Whether it is done or failed; what was killed is taken up again."""
        return self.is_done or self.status == "FAILED"


def read_child(client: MlflowClient, run: Run, *, staging: Path) -> Child:
    """Return the child that a run is.

    Raises:
        UserError: If its tags name no job.
    """
    info, tags, metrics = run.info, run.data.tags, dict(run.data.metrics)
    try:
        job = json.loads(tags["sweep.job"])
        trial = int(tags["sweep.trial"]) if "sweep.trial" in tags else None
        if not (isinstance(job, list) and all(isinstance(one, str) for one in job)):
            raise ValueError("no list of settings")
    except (ValueError, RecursionError) as wrong:
        hint = f"`mlflow runs delete --run-id {info.run_id}` leaves it out."
        raise UserError(f"run {info.run_id}: its tags name no job of a sweep ({wrong})", hint=hint) from wrong
    if VALID in metrics:
        points = client.get_metric_history(info.run_id, VALID)
        metrics[VALID] = min((point.value for point in points if isfinite(point.value)), default=nan)
    error = tags.get("error", "") if info.status != "FINISHED" else ""
    diverged = trial is not None and error.startswith(DivergedError.__name__)
    process, stored = Process.of_tags(tags), StoredRun(client, run, staging=staging)
    found = [name for name in CHECKPOINTS if stored.has_artifact(name) or (stored.folder / name).exists()]
    return Child(
        job=own(job),
        run_id=info.run_id,
        status="PRUNED" if "pruned" in tags else "DIVERGED" if diverged else info.status,
        trial=trial,
        metrics=metrics,
        has_checkpoint=info.status != "FINISHED" and bool(found),
        at_work=info.status == "RUNNING" and process is not None and process.is_alive() is not False,
        duration_s=(info.end_time - info.start_time) / 1000 if info.end_time else nan,
        error=error,
    )


def the_one_that_counts(children: Sequence[Child]) -> Child:
    """Return which of a job's runs, oldest first, counts: finished, else done, else resumable, else the latest.

    >>> killed = Child(("seed=1",), "a", "KILLED", has_checkpoint=True)
    >>> the_one_that_counts([killed, Child(("seed=1",), "b", "FAILED")]).run_id
    'a'
    """
    rank = lambda one: (one.status == "FINISHED", one.is_done, one.has_checkpoint)  # noqa: E731
    return max(reversed(children), key=rank)
