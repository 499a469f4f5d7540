"""What a run is told: points, settings, labels, data and files, on their way to the journal."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, SupportsFloat

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from foretrace.errors import InputError, sanitize
from foretrace.tracking.outbox import Outbox, Record
from foretrace.tracking.sender import Sender
from foretrace.tracking.writer import MAX_METRICS, local_folder

MAX_LENGTH = 6000  # of a setting's value, MLflow's limit
FLUSH_SECONDS = 4.0  # one request costs what a hundred points do (about 20 ms): 0.5 % of this time
# Of a location that anybody may have written: MLflow asserts some, and lacks the libraries of others.
UNREADABLE = (MlflowException, OSError, ValueError, ImportError, AssertionError)
SYNC_SECONDS = 20.0  # that a checkpoint waits for a store which is slow, but there


class Recording:
    """Takes records of one run and hands them to its journal, and so to the store.

    Points are buffered and written together: one at a time, they cost 4–18 ms each.

    Args:
        client: Of the store in which the run was created.
        run: The run.
        waiting: Where it keeps what it has not delivered.
        ended: Whether the run had ended before and is only added to: points of a step that it holds are told too.

    Attributes:
        id: The run's id.
        folder: Where its artifacts are, or wait to be uploaded.
    """

    _journal: Outbox
    _delivery: Sender
    _leaving = False  # from when on a refusal changes nothing any more

    def __init__(self, client: MlflowClient, run: Run, *, waiting: Path, ended: bool) -> None:
        self.client, self.id = client, str(run.info.run_id)
        local = local_folder(run, mlruns=waiting.parents[1])
        self._is_local, self._waiting = local is not None, waiting
        self.folder = local or waiting / "artifacts"
        self._run, self._ended = run, ended
        self._points: list[tuple[str, SupportsFloat, int, int]] = []  # name, value, time in ms, step
        self._history: dict[str, dict[int, SupportsFloat]] = defaultdict(dict)
        self._announced: set[str] = set()
        self._labels: dict[str, str] = {}
        self._flushed_at = time.monotonic()

    def log_metrics(
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

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Records settings; those that the run holds already stay as they are."""
        held = self._run.data.params
        fresh = {key: _plain(value)[:MAX_LENGTH] for key, value in values.items() if key not in held}
        held |= fresh
        self._record({"params": fresh})

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Labels the run."""
        labels = {key: _plain(value) for key, value in values.items()}
        self._run.data.tags.update(labels)
        self._record({"tags": labels})

    def log_input(
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

    def logged_params(self) -> dict[str, str]:
        """The settings that the run holds."""
        return dict(self._run.data.params)

    def logged_tags(self) -> dict[str, str]:
        """The labels that the run holds."""
        return dict(self._run.data.tags)

    def has_artifact(self, path: str) -> bool:
        """Whether the run has an artifact of that name."""
        if self._is_local:
            return (self.folder / path).is_file()
        return any(file.path == path for file in self.client.list_artifacts(self.id, str(Path(path).parent)))

    def download_artifact(self, path: str) -> Path:
        """The local path of an artifact that the run holds.

        Raises:
            InputError: If it holds none of that name.
        """
        expected, found = f"a run with the artifact {path}", self.folder / path
        try:
            if not found.is_file() and not self._is_local:
                found = self._download(path)
            if found.is_file():  # no pipe and no device, which would never end
                return found
            reason = "none"
        except UNREADABLE as error:
            reason = sanitize(str(error), longest=200) or type(error).__name__
        raise InputError("run", expected=expected, received=f"{reason} in run {self.id}")

    def _download(self, path: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self.client.download_artifacts(self.id, path, str(self.folder)))
        finally:
            with suppress(OSError):  # something is in it
                self.folder.rmdir()
                self._waiting.rmdir()

    def log_text(self, path: str, text: str) -> None:
        """Keeps a text as an artifact."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        self.upload(path)

    def log_figures(self, named: Iterable[tuple[str, Figure]]) -> None:
        """Keeps pictures as artifacts, ``figures/<name>.png``."""
        (self.folder / "figures").mkdir(exist_ok=True)
        for name, figure in named:
            # The same picture as by `savefig`, which would draw it twice.
            FigureCanvasAgg(figure).print_png(self.folder / "figures" / f"{name}.png")  # type: ignore[no-untyped-call]
            self.upload(f"figures/{name}.png")

    def upload(self, path: str) -> None:
        """Has a file in ``folder`` uploaded now, where the store is elsewhere; what is left goes at the end."""
        if not self._is_local:
            self._announced.add(path)
            self._record({"artifact": path})

    def _announce_rest(self) -> None:
        if not self._is_local:
            files = (path for path in self.folder.rglob("*") if path.is_file())
            left = {path.relative_to(self.folder).as_posix() for path in files} - self._announced
            self._record(*({"artifact": path} for path in sorted(left)))

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
            if not self._leaving:
                self._delivery.check()


def _plain(value: Any) -> str:
    """As text that any store takes: the name of a file may hold what is no character."""
    return str(value).encode(errors="replace").decode()
