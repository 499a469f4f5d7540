"""The parent run of a sweep: what was asked for, what became of it, and which of its children is best."""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import TracebackType

from mlflow import MlflowClient
from mlflow.entities import Run

from foretrace.config import Tracking, TrainConfig
from foretrace.config.run_config import check_overrides, read_json
from foretrace.data import sources
from foretrace.errors import InputError
from foretrace.sweeps import presentation
from foretrace.sweeps.children import Child, Children
from foretrace.sweeps.jobs import Job, own
from foretrace.tracking import provenance, store
from foretrace.tracking.recovery import recover
from foretrace.tracking.run import TrackedRun
from foretrace.training import optimizers
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

RECORD = "sweep.json"
# Children learn of the store by it, in whatever process: an override would put a password into their records.
URI_VARIABLE = "MLFLOW_TRACKING_URI"
PICTURES_SHARE = 30.0  # drawing takes at most a thirtieth of the time
TAG = "sweep.jobs"  # which only parents have


def check_parts(checked: Iterable[TrainConfig]) -> None:
    """Checks what torch alone can tell, and whether data can be made, once for jobs that share them.

    Raises:
        InputError: If there is no such optimiser or simulator, or one cannot work as it is asked to.
    """
    for config in {
        str((config.data, config.optimizer, config.scheduler)): config for config in checked
    }.values():
        sources.check(config.data)
        optimizers.check_optimizer(config)


class Sweep:
    """A sweep at work. A context manager: its run ends FINISHED, FAILED or KILLED as the block does.

    Made by `begin` or `reopen`. The loop around a search or a grid is::

        with Sweep.begin(None, tracking=config.tracking, workspace=workspace, command=arguments,
                         notes={"study": "..."}) as sweep:
            launcher.launch([sweep.overrides(job, trial=0)], initial_job_idx=0)   # Hydra's launcher
            sweep.refresh()                                 # tables, pictures, tags, metrics; also done at the end
            child = sweep.children()[0]                     # what became of it
            if failed:
                raise SomeError("1 of 1 jobs failed")       # an exception within the block: the parent is FAILED

    Attributes:
        id: The parent's run id, which the children name by ``sweep.parent``.
        jobs: Overrides of every job (without ``sweep.…``, ``resume=…``, ``tracking.uri=…``); None in a search.
        notes: What whoever began the sweep wants to find again in `reopen`; kept in the artifact ``sweep.json``.
        tracked: The parent's run, for further artifacts, tags and metrics.
        failures: Reasons by job of what failed without a run; shown in the tables.
    """

    def __init__(
        self,
        client: MlflowClient,
        run: Run,
        *,
        workspace: Workspace,
        uri: str | None,
        jobs: Sequence[Sequence[str]] | None,
        notes: Mapping[str, str],
    ) -> None:
        staging = workspace.staging
        self.tracked = TrackedRun(client, run, staging=staging)
        self.id, self._uri = self.tracked.id, uri
        self._outside = os.environ.get(URI_VARIABLE)
        self.jobs = None if jobs is None else list(dict.fromkeys(own(job) for job in jobs))
        self.notes = dict(notes)
        self.failures: dict[Job, str] = {}
        self._pictures_due = 0.0
        self._run, self._staging = run, staging
        self._children = Children(client, run, staging=staging)

    @classmethod
    def begin(
        cls,
        jobs: Sequence[Sequence[str]] | None,
        *,
        tracking: Tracking,
        workspace: Workspace,
        command: Sequence[str],
        notes: Mapping[str, str] | None = None,
    ) -> "Sweep":
        """Makes the parent run.

        Args:
            jobs: Overrides of every job; None if they are not known beforehand, as in a search.
            tracking: Where it is recorded; as one of the jobs has it.
            workspace: Where it is kept.
            command: What the user typed after ``-m``, for the record.
            notes: To be found again in `reopen`, e.g. how to go on with a search. No secrets.

        Raises:
            InputError: If the store cannot be reached.
        """
        filter_library_logs()
        tags = (tracking.tags or {}) | provenance.code(workspace.root)
        tags |= {"command": provenance.command(["-m", *command]), TAG: "begun"}
        client, run = store.create_run(
            workspace=workspace,
            uri=tracking.uri,
            experiment=tracking.experiment,
            name=tracking.run_name or presentation.name(jobs, command),
            tags=tags,
        )
        return cls(client, run, workspace=workspace, uri=tracking.uri, jobs=jobs, notes=notes or {})

    @classmethod
    def reopen(cls, run_id: str, *, uri: str | None, workspace: Workspace) -> "Sweep":
        """Goes on with a sweep of which something is left; its run goes RUNNING again within the block.

        Raises:
            InputError: If there is no such run, it is not a sweep's parent, or (on entering) it is at work; if
                what it or a child recorded makes no sense.
        """
        filter_library_logs()
        client, run = store.find_run(run_id, workspace=workspace, uri=uri, key="sweep.resume")
        if TAG not in run.data.tags:
            raise InputError("sweep.resume", expected="the id of a sweep's parent run", received=run_id)
        found = TrackedRun(client, run, staging=workspace.staging, ended=True).download_artifact(RECORD)
        record = read_json(found, key="sweep.resume")
        jobs, notes = record.get("jobs"), record.get("notes")
        if not isinstance(notes, dict) or not (jobs is None or _are_jobs(jobs)):
            expected = f"a sweep's jobs and notes in {found}"
            raise InputError("sweep.resume", expected=expected, received="something else")
        check_overrides(chain.from_iterable(jobs or []), key="sweep.resume")
        sweep = cls(client, run, workspace=workspace, uri=uri, jobs=jobs, notes=notes)
        sweep.children()  # what is wrong with them is said before anything is done
        return sweep

    def __enter__(self) -> "Sweep":
        self.tracked.__enter__()
        _set_environment(URI_VARIABLE, self._uri)
        record = {"jobs": self.jobs, "notes": self.notes}
        self.tracked.log_text(RECORD, json.dumps(record, indent=1))
        self.tracked.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.refresh(pictures=True)
        finally:
            _set_environment(URI_VARIABLE, self._outside)
            self.tracked.__exit__(kind, error, trace)

    @property
    def status(self) -> str:
        """MLflow's word for the parent: RUNNING within the block, afterwards how it ended."""
        return self.tracked.status

    def overrides(
        self, job: Sequence[str], *, trial: int | None = None, resume: str | None = None
    ) -> list[str]:
        """What to hand to Hydra's launcher for a job, so that its run is a child of this sweep.

        Args:
            job: The job's own overrides.
            trial: Its number in a search.
            resume: Id of a run of this job to go on with; see `Child.has_checkpoint`.
        """
        place = [f"sweep.parent={self.id}"]
        place += [] if trial is None else [f"sweep.trial={trial}"]
        place += [] if resume is None else [f"resume={resume}"]
        return [*own(job), *place]

    def children(self) -> list[Child]:
        """One per job, in the order of the jobs; in a search one per trial, in the order of the trials."""
        return self._children.read(self.jobs)

    def mend(self) -> None:
        """Marks children of dead processes KILLED."""
        recover(self.tracked.client, experiments=[self._run.info.experiment_id], staging=self._staging)

    def refresh(self, *, pictures: bool = False) -> None:
        """Brings tables, tags and the best child's metrics up to date, and now and then the pictures.

        Args:
            pictures: Draw them although that was done a moment ago. At the end of the block it is done anyway.
        """
        children = self.children()
        presentation.write_tables(self.tracked, children, self.failures)
        started = time.monotonic()
        if pictures or started > self._pictures_due:
            presentation.write_pictures(self.tracked, children, self.failures)
            taken = time.monotonic() - started
            self._pictures_due = time.monotonic() + PICTURES_SHARE * taken
        self.tracked.flush()


def _are_jobs(jobs: object) -> bool:
    return isinstance(jobs, list) and all(isinstance(job, list) for job in jobs)


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
