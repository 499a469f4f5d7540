"""The parent run of a sweep: what was asked for, what became of it, and which of its children is best."""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from types import TracebackType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from foretrace.config import Tracking
from foretrace.config.run_config import check_overrides, read_json
from foretrace.errors import UserError
from foretrace.sweeps.children import VALID, Child, read_child, the_one_that_counts
from foretrace.sweeps.jobs import Job, own, varied
from foretrace.sweeps.summary import Summary
from foretrace.tracking import provenance, store
from foretrace.tracking.recovery import recover
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.stored import StoredRun
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

RECORD = "sweep.json"
# Children learn of the store by it, in whatever process: an override would put a password into their records.
URI_VARIABLE = "MLFLOW_TRACKING_URI"
TABLES_SHARE = 30.0  # writing the tables takes at most a thirtieth of the time
TAG = "sweep.jobs"  # which only parents have


class Sweep:
    """A sweep at work. A context manager: its run ends FINISHED, FAILED or KILLED as the block does.

    Args:
        client: Client of the store.
        run: The parent run, made by `begin` or found by `reopen`.
        workspace: Where it is kept.
        record: Artifact ``sweep.json``: ``jobs`` has the overrides of every job, or ``search`` how to search.

    Attributes:
        id: The parent's run id, which the children name by ``sweep.parent``.
        jobs: Overrides of every job; None in a search, which finds them as it goes.
        names: Settings that set the jobs apart.
        failures: Reasons by job of what failed without a run; shown in the tables.
    """

    def __init__(
        self, client: MlflowClient, run: Run, *, workspace: Workspace, record: dict[str, Any]
    ) -> None:
        self.tracked = TrackedRun(client, run, staging=workspace.staging)
        self.id, self.workspace, self.record, self._run = self.tracked.id, workspace, record, run
        jobs = record.get("jobs")
        self.jobs: list[Job] | None = None if jobs is None else list(dict.fromkeys(own(job) for job in jobs))
        self.names = varied(self.jobs or [])
        self.failures: dict[Job, str] = {}
        self._done: dict[str, Child] = {}
        self._due = 0.0

    @classmethod
    def begin(
        cls, record: dict[str, Any], *, tracking: Tracking, workspace: Workspace, command: Sequence[str]
    ) -> "Sweep":
        """Make the parent run.

        Args:
            record: What is to be found again in `reopen`: ``jobs`` or ``search``. No secrets.
            tracking: Where it is recorded; as one of the jobs has it.
            workspace: Where it is kept.
            command: What the user typed after ``-m``, for the record.

        Raises:
            UserError: If the store cannot be reached.
        """
        filter_library_logs()
        if tracking.uri:
            os.environ[URI_VARIABLE] = tracking.uri
        tags = (tracking.tags or {}) | provenance.code(workspace.root)
        tags |= {"command": provenance.command(["-m", *command]), TAG: "begun"}
        jobs = record.get("jobs")
        name = f"sweep of {', '.join(varied(jobs)) or 'nothing'}, {len(jobs)} jobs" if jobs else "search"
        client, run = store.create_run(
            workspace=workspace,
            uri=tracking.uri,
            experiment=tracking.experiment,
            name=tracking.run_name or name,
            tags=tags,
        )
        return cls(client, run, workspace=workspace, record=record)

    @classmethod
    def reopen(cls, run_id: str, *, uri: str | None, workspace: Workspace) -> "Sweep":
        """Resume a sweep of which something is left; its run is RUNNING again within the block.

        Raises:
            UserError: If there is no such run, it is not a sweep's parent, or (on entering) it is at work; if
                what it or a child recorded makes no sense.
        """
        filter_library_logs()
        if uri:
            os.environ[URI_VARIABLE] = uri
        client, run = store.find_run(run_id, workspace=workspace, uri=uri, key="sweep.resume")
        if TAG not in run.data.tags:
            raise UserError(f"sweep.resume: {run_id} is not the parent run of a sweep")
        found = StoredRun(client, run, staging=workspace.staging).download_artifact(RECORD)
        record = read_json(found, key="sweep.resume")
        jobs = record.get("jobs")
        are_jobs = isinstance(jobs, list) and all(isinstance(job, list) for job in jobs)
        if not are_jobs and (jobs is not None or not isinstance(record.get("search"), dict)):
            hint = "Version 0.1 resumes the searches that it began."
            raise UserError(f"sweep.resume: no jobs of a sweep and no search in {found}", hint=hint)
        check_overrides(chain.from_iterable(jobs or []), key="sweep.resume")
        sweep = cls(client, run, workspace=workspace, record=record)
        sweep.children()  # what is wrong with them is said before anything is done
        return sweep

    def __enter__(self) -> "Sweep":
        self.tracked.__enter__()
        self.tracked.log_text(RECORD, json.dumps(self.record, indent=1))
        self.tracked.flush()
        self.recover()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._due = 0.0
            self.refresh()
        finally:
            self.tracked.__exit__(kind, error, trace)

    def overrides(self, child: Child) -> list[str]:
        """Return the overrides by which a job's run becomes a child of this sweep, resumed if it can be."""
        trial = [] if child.trial is None else [f"sweep.trial={child.trial}"]
        resumed = [f"resume={child.run_id}"] if child.has_checkpoint else []
        return [*child.job, f"sweep.parent={self.id}", *trial, *resumed]

    def begun(self) -> dict[Job | int, Child]:
        """Return the children that have a run, by job; in a search by the trial's number."""
        runs: list[Run] = []
        condition, token = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.id}'", None
        while not runs or token:
            experiments, order = [self._run.info.experiment_id], ["attributes.start_time ASC"]
            page = self.tracked.client.search_runs(experiments, condition, order_by=order, page_token=token)
            runs, token = [*runs, *page], page.token
            if not page:
                break
        found = defaultdict(list)
        for run in (run for run in runs if "sweep.job" in run.data.tags):
            child = self._done.get(run.info.run_id)
            child = child or read_child(self.tracked.client, run, staging=self.workspace.staging)
            if child.is_done:  # and stays so
                self._done[run.info.run_id] = child
            found[child.key].append(child)
        return {key: the_one_that_counts(children) for key, children in found.items()}

    def children(self) -> list[Child]:
        """Return one child per job, in the order of the jobs; in a search one per trial that was begun."""
        begun = self.begun()
        if self.jobs is None:
            return [begun[key] for key in sorted(key for key in begun if isinstance(key, int))]
        return [begun.get(job, Child(job)) for job in self.jobs]

    def recover(self) -> None:
        """Mark children of dead processes KILLED."""
        experiments = [self._run.info.experiment_id]
        recover(self.tracked.client, experiments=experiments, staging=self.workspace.staging)

    def summary(self) -> Summary:
        """Return the tables as they are now."""
        return Summary(self.children(), names=self.names, failures=self.failures)

    def refresh(self) -> None:
        """Bring tables, tags and the best combination's metrics up to date, unless that was done just now.

        That the store is away ends no sweep.
        """
        if (started := time.monotonic()) < self._due:
            return
        try:
            self._write(self.summary())
        except (*store.NO_ANSWER, OSError) as error:
            print(
                f"the sweep's tables wait for the tracking store: {store.unavailable(error)}", file=sys.stderr
            )
        self._due = started + (1 + TABLES_SHARE) * (time.monotonic() - started)

    def _write(self, summary: Summary) -> None:
        self.tracked.log_text("children.csv", summary.csv(summary.jobs))
        self.tracked.log_text("summary.csv", summary.csv(summary.combinations))
        tags = {f"sweep.{what}": str(number) for what, number in summary.counts.items()}
        if best := summary.best:
            tags |= {"best_child": str(best.child.run_id), "best_settings": best.label}
            tags |= {MLFLOW_RUN_NOTE: summary.markdown()}
            self.tracked.log_metrics(best.means, step=1 + max(self.tracked.history(VALID)[0], default=-1))
        self.tracked.set_tags(tags)
        self.tracked.flush()
