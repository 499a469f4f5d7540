"""The jobs of a sweep as the tracker knows them: one child for each, whichever of its runs counts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, nan
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.errors import DivergedError, InputError
from foretrace.sweeps import jobs as names
from foretrace.sweeps.jobs import Job, own
from foretrace.tracking.process import Process
from foretrace.tracking.stored import local_path

VALID, TEST = "val/mse", "test/mse"
NOT_STARTED = "NOT STARTED"
CHECKPOINTS = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt")  # a kill may come between two of them


@dataclass(frozen=True)
class Child:
    """One job of a sweep, with the run that counts for it: the one that was finished, else the latest.

    Args:
        job: The job's own overrides.
        run_id: None if it was never begun.
        status: MLflow's word for the run, or NOT STARTED.
        trial: Number of the search's trial; None in a grid.
        metrics: Last value of each of the run's metrics, but of ``val/mse`` the lowest: that of the kept weights.
        pruned: Whether a search stopped it early (the run's tag ``pruned``).
        has_checkpoint: Whether it can be gone on with; looked up only for what is not done.
        at_work: Whether a process is seen at work on it, or may be, on another host.
        duration_s: From its first beginning to its last end; NaN while it runs.
        error: What it failed of, in one line.

    >>> Child(job=("model.dropout=0.1", "+seed=2")).settings
    {'model.dropout': '0.1', 'seed': '2'}
    """

    job: Job
    run_id: str | None = None
    status: str = NOT_STARTED
    trial: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    has_checkpoint: bool = False
    at_work: bool = False
    duration_s: float = nan
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: it was finished, or pruned."""
        return self.status == "FINISHED" or self.pruned

    @property
    def has_diverged(self) -> bool:
        """Whether its training ended as its figures were no finite numbers any more: a result of a kind."""
        return self.error.startswith(DivergedError.__name__)

    @property
    def has_result(self) -> bool:
        """Whether its errors are those of a complete training."""
        return self.status == "FINISHED" and not self.pruned

    @cached_property
    def settings(self) -> dict[str, str]:
        """The job's overrides by name, with values as they were typed."""
        return names.settings(self.job)


class Children:
    """Reads the children of a parent run, each of those that are done only once.

    Args:
        client: Of the store.
        parent: The parent run.
        staging: Where runs keep what they have not delivered.
    """

    def __init__(self, client: MlflowClient, parent: Run, *, staging: Path) -> None:
        self._client, self._staging = client, staging
        self._parent, self._experiment = parent.info.run_id, parent.info.experiment_id
        self._done: dict[str, Child] = {}

    def read(self, jobs: Sequence[Sequence[str]] | None) -> list[Child]:
        """One child per job in the order of the jobs; of a search, one per trial in the order of the trials."""
        runs: dict[tuple[int | None, Job], list[Child]] = {}
        for run in self._runs():
            child = self._child(run)
            runs.setdefault((child.trial, child.job), []).append(child)
        if jobs is None:
            found = {key: counted(children) for key, children in runs.items()}
            return [found[key] for key in sorted(found, key=lambda key: (key[0] is None, key[0] or 0))]
        by_job = {job: counted(children) for (_, job), children in runs.items()}
        return [by_job.get(job, Child(job)) for job in map(tuple, jobs)]

    def _runs(self) -> list[Run]:
        runs: list[Run] = []
        token = None
        condition = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self._parent}'"
        order = ["attributes.start_time ASC"]
        while True:
            page = self._client.search_runs([self._experiment], condition, order_by=order, page_token=token)
            runs += page
            token = page.token
            if not token:
                return [run for run in runs if "sweep.job" in run.data.tags]

    def _child(self, run: Run) -> Child:
        run_id = run.info.run_id
        if run_id not in self._done:
            child = self._look_at(run)
            if not child.is_done:
                return child
            self._done[run_id] = child
        return self._done[run_id]

    def _look_at(self, run: Run) -> Child:
        info, tags = run.info, run.data.tags
        job, trial = _asked(run)
        pruned = "pruned" in tags
        begun, ended = info.start_time, info.end_time
        return Child(
            job=job,
            run_id=info.run_id,
            status=info.status,
            trial=trial,
            metrics=dict(run.data.metrics) | self._lowest(run),
            pruned=pruned,
            has_checkpoint=info.status != "FINISHED" and not pruned and self._has_checkpoint(run),
            at_work=info.status == "RUNNING" and _may_be_at_work(tags),
            duration_s=(ended - begun) / 1000 if ended and begun else nan,
            error=tags.get("error", "") if info.status != "FINISHED" else "",
        )

    def _lowest(self, run: Run) -> dict[str, float]:
        """The kept weights are those with the lowest validation error, not the last."""
        if VALID not in run.data.metrics:
            return {}
        values = [point.value for point in self._client.get_metric_history(run.info.run_id, VALID)]
        return {VALID: min((value for value in values if isfinite(value)), default=nan)}

    def _has_checkpoint(self, run: Run) -> bool:
        local = local_path(str(run.info.artifact_uri), mlruns=self._staging.parent)
        folder = local or self._staging / run.info.run_id / "artifacts"
        if any((folder / name).exists() for name in CHECKPOINTS):
            return True
        if local is not None:
            return False
        kept = self._client.list_artifacts(run.info.run_id, "checkpoints")
        return any(file.path in CHECKPOINTS for file in kept)


def _asked(run: Run) -> tuple[Job, int | None]:
    """A child's job, and its number in a search.

    Raises:
        InputError: If its labels make no sense.
    """
    tags, run_id = run.data.tags, run.info.run_id
    try:
        job, trial = json.loads(tags["sweep.job"]), tags.get("sweep.trial")
        if not (isinstance(job, list) and all(isinstance(one, str) for one in job)):
            raise ValueError("no list of settings")
        return own(job), None if trial is None else int(trial)
    except (ValueError, RecursionError) as error:
        expected, received = "a job of the sweep in its tags", str(error)
        remedy = f"`mlflow runs delete --run-id {run_id}` leaves it out."
        raise InputError(f"run {run_id}", expected=expected, received=received, remedy=remedy) from error


def _may_be_at_work(tags: Mapping[str, str]) -> bool:
    process = Process.of_tags(tags)
    return process is not None and not process.is_gone()


def counted(children: Sequence[Child]) -> Child:
    """Of all runs of one job, oldest first, the one that counts: done, else with a checkpoint, else the latest."""
    return max(
        enumerate(children), key=lambda at: (at[1].has_result, at[1].is_done, at[1].has_checkpoint, at[0])
    )[1]
