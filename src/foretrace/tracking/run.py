"""One run in MLflow, from its first record to its last."""

import sys
import time
import traceback
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run

from foretrace.errors import InputError, Interrupted
from foretrace.tracking.delivery import Delivery
from foretrace.tracking.journal import Journal
from foretrace.tracking.mending import LOCK
from foretrace.tracking.process import Process
from foretrace.tracking.recording import Recording
from foretrace.tracking.records import Teller
from foretrace.tracking.signals import Signals

END_SECONDS = 20.0  # that an ended process waits for a store which is away


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
        teller = Teller(self.client, self._run, self.folder)
        self._journal = Journal(self._waiting)
        if teller.deliver(self._journal) or self._run.data.metrics:  # what a killed process left, and did
            self._recall()
        if not self._ended and self._run.info.status != "RUNNING":
            self.client.update_run(self.id, status="RUNNING")
        self._delivery = Delivery(self._journal, teller.tell)
        self._signals.take()
        if not self._ended:
            self.tags(Process.this().tags())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uninterrupted = False
        interrupted = isinstance(error, Interrupted)
        self.status = "FINISHED" if error is None else "KILLED" if interrupted else "FAILED"
        try:
            if error is not None:
                if not interrupted:
                    self.text("traceback.txt", "".join(traceback.format_exception(error)))
                self.tags({"error": f"{type(error).__name__}: {error}"[:500]})
            self._leave()
        finally:
            self._lock.release()
            self._signals.give_back()

    @property
    def uninterrupted(self) -> bool:
        """While True, the first signal is kept for `interrupt_if_asked`."""
        return self._signals.kept

    @uninterrupted.setter
    def uninterrupted(self, value: bool) -> None:
        self._signals.kept = value

    def interrupt_if_asked(self) -> None:
        """Ends the run where its state is whole, if a signal came since the last such place.

        Raises:
            Interrupted: If so.
        """
        self._signals.raise_kept()

    @property
    def is_asked_to_end(self) -> bool:
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

    def _leave(self) -> None:
        """Delivers what is left, and the status last of all."""
        self.flush()
        self._announce_rest()
        if not self._ended:
            self._record({"status": [self.status, int(time.time() * 1000)]}, sync=True)
        if self._delivery.end(END_SECONDS):
            self._journal.remove()
            (self._waiting / LOCK).unlink(missing_ok=True)
            if self._is_local:
                self._waiting.rmdir()
        else:
            waiting = f"run {self.id}: not all is with the tracking store; the rest waits in {self._waiting}."
            remedy = "When the store is back: python src/runs.py deliver"
            print(waiting, remedy, file=sys.stderr)
