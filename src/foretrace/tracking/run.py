"""One run in MLflow, from its first record to its last."""

import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from foretrace.errors import Interrupted, UserError
from foretrace.tracking.outbox import MAX_METRICS, Outbox, Record, Sender, unescape
from foretrace.tracking.recovery import LOCK, RESERVE, Process, clear, is_locked
from foretrace.tracking.redaction import redact
from foretrace.tracking.signals import Signals
from foretrace.tracking.stored import StoredRun, digest_of, store_access

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LENGTH = 6000  # characters of a setting's value, MLflow's limit
FLUSH_SECONDS = 4.0  # one request costs what a hundred points do (about 20 ms): 0.5 % of this time
SYNC_SECONDS = 20.0  # that a checkpoint waits for a store which is slow, but there
RESERVE_BYTES = 1 << 18  # of the disk, for the last records when it is full


class TrackedRun(StoredRun):
    """A run that ends as what happened: FINISHED, FAILED with its traceback, or KILLED by a signal.

    A context manager while it is written to. Metrics and tags are buffered (one metric at a time, they cost 4–18 ms
    each); everything goes to an outbox on disk and from there to the store, in order, on a thread of its own.

    A run that had ``ended`` before is only added to: it keeps its status whatever happens, and its metrics take new
    values for steps that they hold.

    Attributes:
        folder: The folder of its artifacts, or the one in which they wait to be uploaded.
        status: MLflow's word: RUNNING within the block, afterwards how it ended.
        signals: SIGINT and SIGTERM within the block.

    Raises:
        UserError: On entering, if another process is at work on the run.
    """

    def __init__(self, client: MlflowClient, run: Run, *, staging: Path, ended: bool = False) -> None:
        super().__init__(client, run, staging=staging)
        self.status, self._ended = "RUNNING", ended
        self._points: list[tuple[str, SupportsFloat, int, int]] = []  # name, value, time in ms, step
        self._history: dict[str, dict[int, SupportsFloat]] = defaultdict(dict)
        self._new_tags: dict[str, str] = {}
        self._uploaded: set[str] = set()
        self._flushed_at = time.monotonic()
        self._leaving = False  # a refusal changes nothing any more then
        self.signals, self._lock = Signals(), FileLock(self._waiting / LOCK)

    def __enter__(self) -> "TrackedRun":
        with store_access():
            self._waiting.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=1)
            except Timeout as error:
                where = self.at_work() or "another process"
                hint = "Wait for it, or end that process."
                raise UserError(f"run: {where} is at work on {self.id}", hint=hint) from error
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        self.signals.install()
        return self

    def at_work(self) -> str | None:
        """Return which process is at work on the run, in whatever container; None if none is."""
        process = Process.of_tags(self.tags)
        is_alive = self.info.status == "RUNNING" and process is not None and process.is_alive()
        if not is_alive and not is_locked(self._waiting):
            return None
        return f"process {process.pid} on {process.host}" if process else "another process"

    def _open(self) -> None:
        """Send what a killed process left, read what the run holds, and begin to send."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sync()
        self._read(self.client.get_run(self.id))
        for name in self._run.data.metrics:
            points = sorted(self.client.get_metric_history(self.id, name), key=lambda p: p.timestamp)
            self._history[unescape(name)] = {point.step: point.value for point in points}
        if not self._ended:
            # The process first: nobody is to see the run RUNNING in one that has ended.
            self.tags |= (tags := Process.this().tags())
            self.client.log_batch(self.id, tags=[RunTag(*tag) for tag in tags.items()])
            self.client.update_run(self.id, status="RUNNING")
        (self._waiting / RESERVE).write_bytes(bytes(RESERVE_BYTES))
        self._outbox = Outbox(self._waiting)
        self._sender = Sender(self._outbox, self._write)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.signals.ignored = self._leaving = True
        interrupted = isinstance(error, Interrupted)
        self.status = "FINISHED" if error is None else "KILLED" if interrupted else "FAILED"
        ended_ms, is_written = int(time.time() * 1000), True
        (self._waiting / RESERVE).unlink(missing_ok=True)
        try:
            try:
                self._record_end(error, ended_ms)
            except OSError as full:
                is_written = False
                print(f"run {self.id}: its last records could not be written ({full})", file=sys.stderr)
            if not self._send_rest():
                told = f"not all is with the tracking store; the rest waits in {self._waiting}"
                hint = "When the store is back: python src/runs.py sync"
                print(f"run {self.id}: {told}. {hint}", file=sys.stderr)
                return
            if not is_written and not self._ended:
                with suppress(MlflowException):  # or the next start of any run says that this one was killed
                    self.client.set_terminated(self.id, status=self.status, end_time=ended_ms)
            self._outbox.remove()
            clear(self._waiting)
        finally:
            self._lock.release()
            self.signals.restore()

    def _record_end(self, error: BaseException | None, ended_ms: int) -> None:
        """Record what is left, why the run ended, and the status last of all."""
        if error is not None:
            self.set_tags({"error": redact(f"{type(error).__name__}: {error}")[:500]})
        self.flush()
        if error is not None and not isinstance(error, Interrupted):
            with suppress(OSError):  # a full disk: the tag says it too
                self.log_text("traceback.txt", redact("".join(traceback.format_exception(error))))
        for file in [] if self._is_local else sorted(self.folder.rglob("*")):
            path = file.relative_to(self.folder).as_posix()
            if file.is_file() and path not in self._uploaded:
                self._record({"artifact": path})
        if not self._ended:
            self._record({"status": [self.status, ended_ms]}, sync=True)

    def _send_rest(self) -> bool:
        """Wait for the store, unless a signal says not to. Return whether it has everything."""
        try:
            self.signals.ignored = False
            return self._sender.end()
        except Interrupted:
            return False
        finally:
            self.signals.ignored = True

    def log_metrics(self, values: Mapping[str, SupportsFloat], *, step: int, replace: bool = False) -> None:
        """Record values under their names; they are with the store a few seconds later, if it answers.

        A step that a metric holds already is left as it is: a resumed run comes by some of them again.

        Args:
            values: By name. A tensor is read when it is written, so that no step waits for its device.
            step: Batch, epoch, or steps ahead.
            replace: Record values also where the metric holds another one at the step, e.g. of an evaluation that
                was made again: MLflow shows the last. Always so in a run that had ended.
        """
        now, replace = int(time.time() * 1000), replace or self._ended
        for name, value in values.items():
            held = self._history[name]
            if step not in held or (replace and float(held[step]) != float(value)):
                held[step] = value
                self._points.append((name, value, now, step))
        self.flush_if_due()

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Tag the run; the tags travel with the metrics."""
        tags = {key: _text(value) for key, value in values.items()}
        self.tags |= tags
        self._new_tags |= tags
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Write what is buffered if that fills a request, or was last done a few seconds ago."""
        if len(self._points) >= MAX_METRICS or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self, *, sync: bool = False) -> None:
        """Write what is buffered to the outbox, and so to the store.

        With ``sync``, wait until it is safe on disk, and with the store unless that is offline.
        """
        points, self._points = self._points, []
        tags, self._new_tags = self._new_tags, {}
        read = [(name, float(value), now, step) for name, value, now, step in points]
        for name, number, _, step in read:
            self._history[name][step] = number
        record: Record = ({"metrics": read} if read else {}) | ({"tags": tags} if tags else {})
        if record:
            self._record(record, sync=sync)
        self._flushed_at = time.monotonic()
        if sync:
            self._sender.wait(SYNC_SECONDS)

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record settings; a value that differs from the one that the run holds gets a name beside it.

        MLflow keeps the first value for ever: the second of ``evaluation.horizon`` is called
        ``evaluation.horizon: value 2``.
        """
        fresh = {}
        for key, value in values.items():
            text, name, count = _text(value)[:MAX_LENGTH], key, 1
            while (following := f"{key}: value {count + 1}") in self.params:
                name, count = following, count + 1
            if key not in self.params:
                fresh[key] = text
            elif self.params[name] != text:
                fresh[following] = text
        self.params |= fresh
        self._record({"params": fresh})

    def log_input(
        self, name: str, *, digest: str, origin: str, schema: str, profile: str, context: str
    ) -> None:
        """Record what data the run read."""
        self.inputs[name] = digest_of(origin) or digest
        fields = {"name": name, "digest": digest, "source_type": "foretrace", "source": origin}
        self._record({"dataset": fields | {"schema": schema, "profile": profile, "context": context}})

    def log_text(self, path: str, text: str | bytes) -> None:
        """Keep a text, or what need not be one, as an artifact."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        self.upload(path)

    def log_figures(self, named: "Iterable[tuple[str, Figure]]") -> None:
        """Keep figures as artifacts, ``figures/<name>.png``."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        (self.folder / "figures").mkdir(exist_ok=True)
        for name, figure in named:
            # The same picture as by `savefig`, which would draw it twice.
            FigureCanvasAgg(figure).print_png(self.folder / "figures" / f"{name}.png")  # type: ignore[no-untyped-call]
            self.upload(f"figures/{name}.png")

    def upload(self, path: str) -> None:
        """Upload a file in ``folder`` now, if the store is elsewhere; what is left goes at the end."""
        if not self._is_local:
            self._uploaded.add(path)
            self._record({"artifact": path})

    def history(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps and values of a metric, by step."""
        points = sorted(self._history[name].items())
        return [step for step, _ in points], [float(value) for _, value in points]

    def names(self, start: str) -> list[str]:
        """Return the names of the metrics that begin with ``start``."""
        return [name for name, points in self._history.items() if points and name.startswith(start)]

    def _record(self, record: Record, *, sync: bool = False) -> None:
        self._sender.append(record, sync=sync)
        if not self._leaving:
            self._sender.raise_refusal()


def _text(value: Any) -> str:
    """Return a text that any store takes: the name of a file may hold what is no character."""
    return str(value).encode(errors="replace").decode()
