"""One run in MLflow, from its first record to its last."""

import signal
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, SupportsFloat
from urllib.parse import unquote, urlparse

from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from foretrace.errors import InputError, Interrupted

MAX_METRICS = 1000  # in one request, MLflow's limit
MAX_PARAMS = 100  # likewise
FLUSH_SECONDS = 4.0  # one request costs what a hundred points do (about 20 ms): 0.5 % of this time


class TrackedRun:
    """A run that ends as what happened: FINISHED, FAILED with its traceback, or KILLED by a signal.

    Points are buffered and written together: one at a time, they cost 4–18 ms each.

    Args:
        client: Of the store in which the run was created.
        run: The run.
        staging: Where artifacts wait if the store is not on this machine.
        ended: Whether the run had ended before; it then keeps its status whatever happens.
    """

    def __init__(self, client: MlflowClient, run: Run, *, staging: Path, ended: bool = False) -> None:
        self.client, self.id = client, str(run.info.run_id)
        location = urlparse(run.info.artifact_uri)
        self._is_local = location.scheme in ("", "file")
        self.folder = Path(unquote(location.path)) if self._is_local else staging / self.id / "artifacts"
        self.status = "RUNNING"
        self._ended = ended
        self._points: list[tuple[str, SupportsFloat, int, int]] = []  # name, value, time in ms, step
        self._flushed_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "TrackedRun":
        self.folder.mkdir(parents=True, exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.status = (
            "FINISHED" if error is None else "KILLED" if isinstance(error, Interrupted) else "FAILED"
        )
        try:
            if error is not None:
                self.text("traceback.txt", "".join(traceback.format_exception(error)))
                self.tags({"error": f"{type(error).__name__}: {error}"[:500]})
            self.flush()
            if not self._is_local:
                self.client.log_artifacts(self.id, str(self.folder))
        finally:
            if not self._ended:
                self.client.set_terminated(self.id, status=self.status)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def metrics(self, values: Mapping[str, SupportsFloat], *, step: int) -> None:
        """Records values under their names; they are written a few seconds later at most.

        A value may be a tensor: it is read when it is written, so that no step waits for its device.
        """
        now = int(time.time() * 1000)
        self._points += [(name, value, now, step) for name, value in values.items()]
        if len(self._points) >= MAX_METRICS or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is buffered."""
        points, self._points = self._points, []
        for first in range(0, len(points), MAX_METRICS):
            batch = points[first : first + MAX_METRICS]
            metrics = [Metric(name, float(value), now, step) for name, value, now, step in batch]
            self.client.log_batch(self.id, metrics=metrics)
        self._flushed_at = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        """Records settings."""
        params = [Param(key, str(value)[:6000]) for key, value in values.items()]
        for first in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.id, params=params[first : first + MAX_PARAMS])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Labels the run."""
        self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    def dataset(
        self, name: str, *, digest: str, origin: str, schema: str, profile: str, context: str
    ) -> None:
        """Records what data the run read."""
        data = Dataset(
            name=name, digest=digest, source_type="foretrace", source=origin, schema=schema, profile=profile
        )
        self.client.log_inputs(
            self.id, [DatasetInput(data, tags=[InputTag(MLFLOW_DATASET_CONTEXT, context)])]
        )

    def history(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a metric as the tracker has them, by step."""
        points = self.client.get_metric_history(self.id, name)
        ordered = sorted((point.step, point.value) for point in points)
        return [step for step, _ in ordered], [value for _, value in ordered]

    def names(self, start: str) -> list[str]:
        """Names of the metrics that begin with ``start``."""
        return [name for name in self.client.get_run(self.id).data.metrics if name.startswith(start)]

    def recorded_params(self) -> dict[str, str]:
        """The settings that the run holds."""
        return dict(self.client.get_run(self.id).data.params)

    def recorded_tags(self) -> dict[str, str]:
        """The labels that the run holds."""
        return dict(self.client.get_run(self.id).data.tags)

    def fetch(self, path: str) -> Path:
        """The local path of an artifact that the run holds.

        Raises:
            InputError: If it holds none of that name.
        """
        if self._is_local and (self.folder / path).is_file():
            return self.folder / path
        try:
            return Path(self.client.download_artifacts(self.id, path, str(self.folder)))
        except (MlflowException, OSError) as error:
            received = f"none in run {self.id}"
            raise InputError("run", expected=f"a run with the artifact {path}", received=received) from error

    def text(self, path: str, text: str) -> None:
        """Keeps a text as an artifact."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def figures(self, named: Iterable[tuple[str, Figure]]) -> None:
        """Keeps pictures as artifacts, ``figures/<name>.png``."""
        (self.folder / "figures").mkdir(exist_ok=True)
        for name, figure in named:
            figure.savefig(self.folder / "figures" / f"{name}.png")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
