"""A sweep: its parent run, the jobs that are left, what became of each, and its last line."""

import json
import os
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from foretrace.config import Tracking
from foretrace.config.run_config import check_overrides, read_json
from foretrace.errors import UserError, sanitize
from foretrace.sweeps.children import VALID, Child, Summary, read_child, the_one_that_counts
from foretrace.sweeps.jobs import Compose, Job, brief, check, own, require_optuna, varied
from foretrace.sweeps.workers import Worker, work_off
from foretrace.tracking import provenance, store
from foretrace.tracking.recovery import recover
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.stored import NO_ANSWER, unavailable
from foretrace.workspace import Workspace

RECORD = "sweep.json"
# Children learn of the store by it, in whatever process: an override would put a password into their records.
URI_VARIABLE = "MLFLOW_TRACKING_URI"
TABLES_SHARE = 30.0  # writing the tables takes at most a thirtieth of the time
TAG = "sweep.jobs"  # which only parents have
MOST_RUNS = 50_000  # of one sweep; as many as MLflow gives at once
KILLED = (130, 137, 143)  # exit statuses of a process that a signal ended, beside those below 0
RETRIES = 2  # of a job that was killed: a third time it would hardly be chance
WAIT_S = 5.0  # from one question to a store that is away to the next


class UnfinishedError(RuntimeError):
    """Jobs of a sweep failed, or were left out."""


class Sweep:
    """A grid at work; `foretrace.sweeps.search.Search` is a sweep that finds its jobs as it goes.

    A context manager: its run ends FINISHED, FAILED or KILLED as the block does, and its last line says so. It is made
    by `begin` or `reopen`. Its record is the artifact ``sweep.json``: ``jobs`` has the overrides of every job, or
    ``search`` how to search.

    Attributes:
        id: The parent's run id, which the children name by ``sweep.parent``.
        names: Settings that set the jobs apart.
        number: How many jobs there are in all.
        left: Jobs to do, with their run if they have one.
        failed: Jobs that ended without a result, nobody knows why; also those without a run.
    """

    def __init__(self, tracked: TrackedRun, *, workspace: Workspace, record: dict[str, Any]) -> None:
        self.tracked, self.id, self.workspace, self.record = tracked, tracked.id, workspace, record
        self._jobs: list[Job] = list(dict.fromkeys(own(job) for job in record.get("jobs", [])))
        self.names, self.number = varied(self._jobs), len(self._jobs)
        self.left, self.failed = deque[Child](), dict[Job, Child]()
        self._experiments, self._done, self._due = [tracked.info.experiment_id], dict[str, Child](), 0.0

    def check(self, compose: Compose) -> None:
        """See whether what is left can still be done.

        Raises:
            UserError: If not.
        """
        check([child.job for child in self.children() if not child.is_done], compose)

    def __enter__(self) -> "Sweep":
        if self.workspace.uri:  # for the jobs; before the run's thread, as others may read it then
            os.environ[URI_VARIABLE] = self.workspace.uri
        self.tracked.__enter__()
        self.tracked.log_text(RECORD, json.dumps(self.record, indent=1))
        self.recover()
        self.left.extend(child for child in self.children() if not child.is_done and not child.at_work)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._due = 0.0
            self.refresh()
        finally:
            self.tracked.__exit__(kind, error, trace)
        summary = self.summary()
        print(summary.text().to_string(index=False))
        print(f"tables   {self.tracked.folder / 'summary.csv'}, children.csv")
        if summary.counts["done"] < self.number:
            print(f"what is missing: python src/train.py sweep.resume={self.id}")
        print(f"sweep={self.id} status={self.tracked.status} {summary.verdict(self.number)}", flush=True)

    def propose(self) -> Child | None:
        """Return the next job, with its run if it has one; None if there is none at the moment."""
        return self.left.popleft() if self.left else None

    def tell(self, child: Child) -> None:
        """Learn what became of a job. The tracking store knows it; a search's study does not yet."""

    def overrides(self, child: Child) -> list[str]:
        """Return the overrides by which a job's run becomes a child of this sweep, resumed if it can be."""
        trial = [] if child.trial is None else [f"sweep.trial={child.trial}"]
        resumed = [f"resume={child.run_id}"] if child.has_checkpoint else []
        return [*child.job, f"sweep.parent={self.id}", *trial, *resumed]

    def begun(self) -> dict[Job | int, Child]:
        """Return the children that have a run, by job; in a search by the trial's number."""
        client, found = self.tracked.client, defaultdict(list)
        condition, order = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.id}'", ["attributes.start_time ASC"]
        for run in client.search_runs(self._experiments, condition, max_results=MOST_RUNS, order_by=order):
            if "sweep.job" in run.data.tags:
                child = self._done.get(run.info.run_id)
                child = child or read_child(client, run, staging=self.workspace.staging)
                if child.is_done:  # and stays so
                    self._done[run.info.run_id] = child
                found[child.key].append(child)
        return {key: the_one_that_counts(children) for key, children in found.items()}

    def children(self) -> list[Child]:
        """Return one child per job, in the order of the jobs; in a search one per trial that was begun."""
        begun = self.begun()
        return [begun.get(job) or self.failed.get(job) or Child(job) for job in self._jobs]

    def recover(self) -> None:
        """Mark children of dead processes KILLED."""
        recover(self.tracked.client, experiments=self._experiments, staging=self.workspace.staging)

    def summary(self) -> Summary:
        """Return the tables as they are now."""
        return Summary(self.children(), names=self.names)

    def refresh(self) -> None:
        """Bring tables, tags and the best combination's metrics up to date, unless that was done just now.

        That the store is away ends no sweep.
        """
        if (started := time.monotonic()) < self._due:
            return
        try:
            summary = self.summary()
            for name, table in (("children.csv", summary.jobs), ("summary.csv", summary.combinations)):
                self.tracked.log_text(name, table.to_csv(float_format="%.6g", lineterminator="\n"))
            tags = {f"sweep.{what}": str(number) for what, number in summary.counts.items()}
            if best := summary.best:
                tags |= {"best_child": str(best.child.run_id), "best_settings": best.label}
                tags |= {MLFLOW_RUN_NOTE: summary.markdown()}
                step = 1 + max(self.tracked.history(VALID)[0], default=-1)
                self.tracked.log_metrics(best.means, step=step)
            self.tracked.set_tags(tags)
            self.tracked.flush()
        except (*NO_ANSWER, OSError) as error:
            told = f"the sweep's tables wait for the tracking store: {unavailable(error)}"
            print(told, file=sys.stderr)
        self._due = started + (1 + TABLES_SHARE) * (time.monotonic() - started)


def run(sweep: Sweep, start: Callable[[Sequence[str]], Worker], *, places: int) -> int:
    """Do what is missing of a sweep, ``places`` jobs at once, each begun by ``start`` from its overrides.

    Return the exit status: 1 if something is still missing.
    """
    tries = Counter[object]()

    def begin(child: Child) -> Worker:
        resumed = f": resumes run {child.run_id}" if child.has_checkpoint else ""
        print(f"job      {brief(child.job, sweep.names)}{resumed}", flush=True)
        return start(sweep.overrides(child))

    def conclude(before: Child, status: int) -> None:
        child, name = _outcome(sweep, before), brief(before.job, sweep.names)
        tries[child.key] += 1
        if not child.has_ended:
            if (status < 0 or status in KILLED) and tries[child.key] <= RETRIES:
                print(f"killed   {name}: taken up again", file=sys.stderr)
                return sweep.left.append(child)
            reason = child.error or f"ended without a result, exit status {status}"
            child = sweep.failed[child.job] = replace(child, status="FAILED", error=reason)
        sweep.tell(child)
        result = sanitize(child.error, longest=200)
        if child.is_done and VALID in child.metrics:
            result = f"{VALID}={child.metrics[VALID]:.6g}"
        line = f"{child.status.lower():<8} {name}: {result}, run {child.run_id}"
        print(line, file=sys.stdout if child.is_done else sys.stderr, flush=True)
        return sweep.refresh()

    try:
        with sweep:
            children = sweep.children()
            for child in (child for child in children if child.at_work):
                told = f"run {child.run_id} is at work in another process, and left alone"
                print(f"job      {brief(child.job, sweep.names)}: {told}", file=sys.stderr)
            known = sum(child.is_done for child in children)
            done = f", {known} of them done before" if known else ""
            print(f"sweep    {sweep.id}: {sweep.number} jobs{done}, {places} at a time", flush=True)
            work_off(sweep.propose, begin, conclude, places=places)
            summary = sweep.summary()
            if summary.counts["done"] < sweep.number:
                raise UnfinishedError(summary.verdict(sweep.number))
    except UnfinishedError:
        return 1
    return 0


def _outcome(sweep: Sweep, child: Child) -> Child:
    """Return a job that has ended as the tracking store has it, which is waited for."""
    while True:
        try:
            sweep.recover()
            return sweep.begun().get(child.key, child)
        except NO_ANSWER as error:
            told = f"the sweep waits for the tracking store: {unavailable(error)}"
            print(told, file=sys.stderr, flush=True)
            time.sleep(WAIT_S)


def begin(
    record: dict[str, Any], *, tracking: Tracking, workspace: Workspace, command: Sequence[str]
) -> Sweep:
    """Make the parent run of a sweep, tracked as one of its jobs is; ``command`` is what was typed after ``-m``.

    Raises:
        UserError: If the store cannot be reached.
    """
    tags = (tracking.tags or {}) | provenance.code(workspace.root)
    tags |= {"command": provenance.command(["-m", *command]), TAG: "begun"}
    jobs = record.get("jobs")
    name = f"sweep of {', '.join(varied(jobs)) or 'nothing'}, {len(jobs)} jobs" if jobs else "search"
    name, experiment = tracking.run_name or name, tracking.experiment
    tracked = store.create_run(workspace, experiment=experiment, name=name, tags=tags)
    return _kind(record)(tracked, workspace=workspace, record=record)


def reopen(run_id: str, *, workspace: Workspace, **changes: Any) -> Sweep:
    """Return a sweep of which something is left, by its parent's id; ``changes`` may give a search other ``n_trials``.

    Raises:
        UserError: If there is no such run, it is not a sweep's parent, or (on entering) it is at work; if
            what it or a child recorded makes no sense.
    """
    tracked = store.find_run(run_id, workspace, key="sweep.resume")
    if TAG not in tracked.tags:
        raise UserError(f"sweep.resume: {run_id} is not the parent run of a sweep")
    if not tracked.has_artifact(RECORD):
        told = f"sweep.resume: {run_id} was ended before it had recorded its jobs"
        raise UserError(told, hint="Start it anew with the command in its tag `command`.")
    found = tracked.download_artifact(RECORD)
    record = read_json(found, key="sweep.resume")
    jobs, search = record.get("jobs"), record.get("search")
    if isinstance(jobs, list) and all(isinstance(job, list) for job in jobs):
        check_overrides(chain.from_iterable(jobs), key="sweep.resume")
    elif jobs is None and isinstance(search, dict):
        record = {"search": search | changes}
    else:
        hint = "Version 0.1 resumes the searches that it began."
        raise UserError(f"sweep.resume: no jobs of a sweep and no search in {found}", hint=hint)
    sweep = _kind(record)(tracked, workspace=workspace, record=record)
    sweep.children()  # what is wrong with them is said before anything is done
    return sweep


def _kind(record: dict[str, Any]) -> type[Sweep]:
    if "search" not in record:
        return Sweep
    require_optuna()
    from foretrace.sweeps.search import Search

    return Search
