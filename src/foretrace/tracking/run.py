"""One run in MLflow, from its first record to its last."""

import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from foretrace.errors import InputError, Interrupted
from foretrace.tracking.buffer import Recording
from foretrace.tracking.outbox import Outbox
from foretrace.tracking.process import Process
from foretrace.tracking.recovery import LOCK, RESERVE, clear
from foretrace.tracking.redaction import redact
from foretrace.tracking.sender import Sender
from foretrace.tracking.signals import Signals
from foretrace.tracking.writer import StoreWriter

LOCAL_UI = "http://localhost:5000"
AWAY_SECONDS = 20.0  # that an ended process waits for a store which is away
SLOW_SECONDS = 300.0  # and for one record, e.g. a large file, by one which is there
RESERVE_BYTES = 1 << 18  # of the disk, which are there for the last records when it is full


class TrackedRun(Recording):
    """A run that ends as what happened: FINISHED, FAILED with its traceback, or KILLED by a signal.

    Everything that it is told goes to a journal on disk and from there to the store, in order, on a thread of its
    own.

    Args:
        client: Of the store in which the run was created.
        run: The run.
        staging: Where runs keep what they have not delivered, by run.
        ended: Whether the run had ended before and is only added to: it keeps its status whatever happens.

    Raises:
        InputError: On entering, if another process is at work on the run.
    """

    def __init__(self, client: MlflowClient, run: Run, *, staging: Path, ended: bool = False) -> None:
        super().__init__(client, run, waiting=staging / str(run.info.run_id), ended=ended)
        self.status = "RUNNING"
        self._signals = Signals()
        self._lock = FileLock(self._waiting / LOCK)

    def __enter__(self) -> "TrackedRun":
        self._take()
        self.folder.mkdir(parents=True, exist_ok=True)
        teller = StoreWriter(self.client, self._run, self.folder)
        self._journal = Outbox(self._waiting)
        if teller.deliver(self._journal) or self._run.data.metrics:  # what a killed process left, and did
            self._recall()
        if not self._ended:
            self._claim()
        (self._waiting / RESERVE).write_bytes(bytes(RESERVE_BYTES))
        self._delivery = Sender(self._journal, teller.tell)
        self._signals.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.ignored = self._leaving = True
        interrupted = isinstance(error, Interrupted)
        self.status = "FINISHED" if error is None else "KILLED" if interrupted else "FAILED"
        (self._waiting / RESERVE).unlink(missing_ok=True)
        try:
            if error is not None and not interrupted:
                with suppress(OSError):  # a full disk: the label says it too
                    self.log_text("traceback.txt", redact("".join(traceback.format_exception(error))))
            self._leave({"error": redact(f"{type(error).__name__}: {error}")[:500]} if error else {})
        finally:
            self._lock.release()
            self._signals.give_back()

    @property
    def address(self) -> str:
        """Where a browser shows it: at its server, or where `mlflow ui` answers unless told otherwise.

        MLflow 3 opens an experiment on its GenAI page, without any run, unless the address says otherwise.
        """
        server = urlsplit(self.client.tracking_uri)
        host = f"{server.scheme}://{server.netloc.rpartition('@')[2]}{server.path.rstrip('/')}"
        place = f"experiments/{self._run.info.experiment_id}/runs/{self.id}?workflowType=machine_learning"
        return f"{host if server.scheme in ('http', 'https') else LOCAL_UI}/#/{place}"

    @property
    def defer_signals(self) -> bool:
        """While True, the first signal is kept for `raise_if_stop_requested`."""
        return self._signals.kept

    @defer_signals.setter
    def defer_signals(self, value: bool) -> None:
        self._signals.kept = value

    def raise_if_stop_requested(self) -> None:
        """Ends the run where its state is whole, if a signal came since the last such place.

        Raises:
            Interrupted: If so.
        """
        self._signals.raise_kept()

    @property
    def stop_requested(self) -> bool:
        """Whether a signal waits for the next place where the run can end."""
        return self._signals.came

    def _take(self) -> None:
        """Makes the run this process's own, until the process ends in whatever way."""
        self._waiting.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=1)
        except Timeout as error:
            process = Process.of_tags(self._run.data.tags)
            at_work = f"{self.id}, at work in process {process.pid} on {process.host}" if process else self.id
            remedy = "Wait for it, or end that process."
            raise InputError(
                "run", expected="a run that no process works on", received=at_work, remedy=remedy
            ) from error

    def _claim(self) -> None:
        """Names this process first: nobody is to see the run RUNNING in one that is gone."""
        if Process.of_tags(self._run.data.tags) != Process.this():
            labels = Process.this().tags()
            self._run.data.tags.update(labels)
            self.client.log_batch(self.id, tags=[RunTag(*label) for label in labels.items()])
        if self._run.info.status != "RUNNING":
            self.client.update_run(self.id, status="RUNNING")

    def _leave(self, labels: dict[str, str]) -> None:
        """Delivers what is left, and the status last of all."""
        ended_ms, is_written = int(time.time() * 1000), True
        try:
            self.flush()
            self.set_tags(labels)
            self._announce_rest()
            if not self._ended:
                self._record({"status": [self.status, ended_ms]}, sync=True)
        except OSError as error:
            is_written = False
            print(f"run {self.id}: its last records could not be written ({error})", file=sys.stderr)
        if not self._deliver_rest():
            waiting = f"run {self.id}: not all is with the tracking store; the rest waits in {self._waiting}."
            remedy = "When the store is back: python src/runs.py deliver"
            print(waiting, remedy, file=sys.stderr)
            return
        if not is_written and not self._ended:
            with suppress(MlflowException):  # else the next start of any run says that this one was killed
                self.client.set_terminated(self.id, status=self.status, end_time=ended_ms)
        self._journal.remove()
        clear(self._waiting)

    def _deliver_rest(self) -> bool:
        """Waits for the store, unless a signal says not to. Whether it has everything."""
        try:
            self._signals.ignored = False
            return self._delivery.end(away_s=AWAY_SECONDS, slow_s=SLOW_SECONDS)
        except Interrupted:
            return False
        finally:
            self._signals.ignored = True
