"""One run in MLflow, from its first record to its last."""

import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, SupportsFloat

from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from foretrace.errors import InputError, Interrupted
from foretrace.tracking.delivery import Delivery
from foretrace.tracking.journal import Journal, Record
from foretrace.tracking.mending import LOCK
from foretrace.tracking.process import Process
from foretrace.tracking.records import MAX_METRICS, Teller, local_folder

MAX_LENGTH = 6000  # of a setting's value, MLflow's limit
FLUSH_SECONDS = 4.0  # one request costs what a hundred points do (about 20 ms): 0.5 % of this time
SYNC_SECONDS = 20.0  # that a checkpoint waits for a store which is slow, but there
END_SECONDS = 20.0  # that an ended process waits for a store which is away


class TrackedRun:
    """A run that ends as what happened: FINISHED, FAILED with its traceback, or KILLED by a signal.

    Everything that it is told goes to a journal on disk and from there to the store, in order, on a thread of its
    own. Points are buffered and written together: one at a time, they cost 4–18 ms each.

    Args:
        client: Of the store in which the run was created.
        run: The run.
        staging: Where runs keep what they have not delivered, by run.
        ended: Whether the run had ended before and is only added to: it keeps its status whatever happens.

    Raises:
        InputError: On entering, if another process is at work on the run.
    """

    def __init__(self, client: MlflowClient, run: Run, *, staging: Path, ended: bool = False) -> None:
        self.client, self.id = client, str(run.info.run_id)
        local = local_folder(run)
        self._is_local, self._waiting = local is not None, staging / self.id
        self.folder = local or self._waiting / "artifacts"
        self.status = "RUNNING"
        self.uninterrupted = False  # while True, the first signal is kept for `interrupt_if_asked`
        self._asked: Interrupted | None = None
        self._ended, self._run = ended, run
        self._lock = FileLock(self._waiting / LOCK)
        self._points: list[tuple[str, SupportsFloat, int, int]] = []  # name, value, time in ms, step
        self._history: dict[str, dict[int, SupportsFloat]] = defaultdict(dict)
        self._announced: set[str] = set()
        self._labels: dict[str, str] = {}
        self._flushed_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

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
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, self._interrupt) for number in numbers}
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
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def metrics(
        self, values: Mapping[str, SupportsFloat], *, step: int, tags: Mapping[str, str] | None = None
    ) -> None:
        """Records values under their names; they are with the store a few seconds later, if it answers.

        A value may be a tensor: it is read when it is written, so that no step waits for its device. A step that
        the run holds already is left as it is: a resumed training comes by some of them again.

        Args:
            values: By name.
            step: Batch or epoch.
            tags: Labels that travel with the points.
        """
        now = int(time.time() * 1000)
        fresh = {n: value for n, value in values.items() if self._ended or step not in self._history[n]}
        for name, value in fresh.items():
            self._history[name][step] = value
        self._points += [(name, value, now, step) for name, value in fresh.items()]
        self._labels |= tags or {}
        if len(self._points) >= MAX_METRICS:
            self.flush()
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Writes what is buffered if that was last done a few seconds ago."""
        if time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self, *, sync: bool = False) -> None:
        """Hands what is buffered to the journal, and so to the store.

        Args:
            sync: Wait until it is safe on disk, and with the store unless that is away.
        """
        points, self._points = self._points, []
        labels, self._labels = self._labels, {}
        read = [(name, float(value), now, step) for name, value, now, step in points]
        for name, number, _, step in read:
            self._history[name][step] = number
        record: Record = ({"metrics": read} if read else {}) | ({"tags": labels} if labels else {})
        self._record(*([record] if record else []), sync=sync)
        self._flushed_at = time.monotonic()
        if sync:
            self._delivery.wait(SYNC_SECONDS)

    def params(self, values: Mapping[str, Any]) -> None:
        """Records settings; those that the run holds already stay as they are."""
        held = self._run.data.params
        fresh = {key: str(value)[:MAX_LENGTH] for key, value in values.items() if key not in held}
        held |= fresh
        self._record({"params": fresh})

    def tags(self, values: Mapping[str, Any]) -> None:
        """Labels the run."""
        labels = {key: str(value) for key, value in values.items()}
        self._run.data.tags.update(labels)
        self._record({"tags": labels})

    def dataset(
        self, name: str, *, digest: str, origin: str, schema: str, profile: str, context: str
    ) -> None:
        """Records what data the run read."""
        fields = {"name": name, "digest": digest, "source_type": "foretrace", "source": origin}
        self._record({"dataset": fields | {"schema": schema, "profile": profile, "context": context}})

    def history(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a metric, by step."""
        points = sorted(self._history[name].items())
        return [step for step, _ in points], [float(value) for _, value in points]

    def names(self, start: str) -> list[str]:
        """Names of the metrics that begin with ``start``."""
        return [name for name, points in self._history.items() if points and name.startswith(start)]

    def recorded_params(self) -> dict[str, str]:
        """The settings that the run holds."""
        return dict(self._run.data.params)

    def recorded_tags(self) -> dict[str, str]:
        """The labels that the run holds."""
        return dict(self._run.data.tags)

    def fetch(self, path: str) -> Path:
        """The local path of an artifact that the run holds.

        Raises:
            InputError: If it holds none of that name.
        """
        if (self.folder / path).is_file():
            return self.folder / path
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return Path(self.client.download_artifacts(self.id, path, str(self.folder)))
        except (MlflowException, OSError) as error:
            received = f"none in run {self.id}"
            raise InputError("run", expected=f"a run with the artifact {path}", received=received) from error

    def text(self, path: str, text: str) -> None:
        """Keeps a text as an artifact."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        self.announce(path)

    def figures(self, named: Iterable[tuple[str, Figure]]) -> None:
        """Keeps pictures as artifacts, ``figures/<name>.png``."""
        (self.folder / "figures").mkdir(exist_ok=True)
        for name, figure in named:
            figure.savefig(self.folder / "figures" / f"{name}.png")
            self.announce(f"figures/{name}.png")

    def announce(self, path: str) -> None:
        """Has a file in ``folder`` uploaded now, where the store is elsewhere; what is left goes at the end."""
        if not self._is_local:
            self._announced.add(path)
            self._record({"artifact": path})

    def interrupt_if_asked(self) -> None:
        """Ends the run where its state is whole, if a signal came since the last such place.

        Raises:
            Interrupted: If so.
        """
        if self._asked is not None:
            raise self._asked

    @property
    def is_asked_to_end(self) -> bool:
        """Whether a signal waits for the next place where the run can end."""
        return self._asked is not None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None or not self.uninterrupted:
            raise Interrupted(number)
        self._asked = Interrupted(number)
        print(
            f"{self._asked}: ending with a checkpoint; once more to end at once", file=sys.stderr, flush=True
        )

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

    def _recall(self) -> None:
        """Reads what the run holds."""
        self._run = self.client.get_run(self.id)
        for name in self._run.data.metrics:
            points = self.client.get_metric_history(self.id, name)
            self._history[name] = {point.step: point.value for point in points}

    def _record(self, *records: Record, sync: bool = False) -> None:
        if records:
            self._journal.append(records, sync=sync)
            self._delivery.wake()

    def _leave(self) -> None:
        """Delivers what is left, and the status last of all."""
        self.flush()
        if not self._is_local:
            files = (path for path in self.folder.rglob("*") if path.is_file())
            left = {path.relative_to(self.folder).as_posix() for path in files} - self._announced
            self._record(*({"artifact": path} for path in sorted(left)))
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
