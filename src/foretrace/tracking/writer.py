"""The records that a run's journal holds, and how each is told to MLflow."""

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from foretrace.errors import InputError
from foretrace.tracking.outbox import UNREADABLE, Outbox, Record
from foretrace.tracking.sender import deliver

RELATIVE = "mlruns/artifacts"  # to the checkout, where a bare `mlflow ui` is started
LOCAL = ("", "file")  # schemes of locations
MAX_METRICS = 1000  # in one request, MLflow's limit
MAX_PARAMS = 100  # likewise


def local_folder(run: Run, *, mlruns: Path) -> Path | None:
    """The folder of a run's artifacts if it is on this machine's disks; see `local_path`."""
    return local_path(str(run.info.artifact_uri), mlruns=mlruns)


def local_path(location: str, *, mlruns: Path) -> Path | None:
    """Where artifacts are on this machine's disks; None if they are elsewhere.

    Args:
        location: As the store has it. That of a mounted ``mlruns`` is relative, or its path outside the image.
        mlruns: The checkout's own, which is meant then.

    Raises:
        InputError: If it is no location.

    >>> local_path("file:///home/ann/foretrace/mlruns/artifacts/1/artifacts", mlruns=Path("/app/mlruns"))
    PosixPath('/app/mlruns/artifacts/1/artifacts')
    """
    try:
        uri = urlparse(location)
    except ValueError as error:
        raise InputError("run", expected="a run with artifacts", received=f"{location} ({error})") from error
    if uri.scheme not in LOCAL:
        return None
    path = unquote(uri.path)
    above, is_own, within = f"/{path}".rpartition(f"/{RELATIVE}/")
    if not is_own or (above and os.access(f"{above}/mlruns", os.F_OK)):
        return Path(path)
    return mlruns / "artifacts" / within


class StoreWriter:
    """Tells records of one run to the store.

    Args:
        client: Of the store.
        run: The run.
        artifacts: Where artifacts wait if the store is not on this machine.
    """

    def __init__(self, client: MlflowClient, run: Run, artifacts: Path) -> None:
        self._client, self._id = client, str(run.info.run_id)
        self._artifacts = artifacts
        self._is_local = urlparse(str(run.info.artifact_uri)).scheme in LOCAL

    def deliver(self, journal: Outbox) -> int:
        """Tells everything that waits, in order; returns how many records that were."""
        return deliver(journal, self.tell, self._say_refused)

    def tell(self, record: Record) -> None:
        """Tells one record.

        Raises:
            MlflowException: If the store did not take it.
        """
        if UNREADABLE in record:
            raise ValueError("a line of the journal is damaged")
        for kind, content in record.items():
            getattr(self, f"_{kind}")(content)

    def _say_refused(self, error: Exception) -> None:
        reason = " ".join(str(error).split())[:160]
        print(f"run {self._id}: a record was refused and set aside ({reason})", file=sys.stderr)

    def _metrics(self, points: list[tuple[str, float, int, int]]) -> None:
        metrics = [Metric(*point) for point in points]
        for first in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + MAX_METRICS])

    def _params(self, values: dict[str, str]) -> None:
        params = [Param(key, value) for key, value in values.items()]
        for first in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + MAX_PARAMS])

    def _tags(self, values: dict[str, str]) -> None:
        self._client.log_batch(self._id, tags=[RunTag(key, value) for key, value in values.items()])

    def _dataset(self, fields: dict[str, Any]) -> None:
        context = InputTag(MLFLOW_DATASET_CONTEXT, fields["context"])
        dataset = Dataset(**{name: value for name, value in fields.items() if name != "context"})
        given = [DatasetInput(dataset, tags=[context])]
        try:
            self._client.log_inputs(self._id, given)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow looks whether it knows the data, then adds them: another run may have done so in between.
            self._client.log_inputs(self._id, given)

    def _artifact(self, path: str) -> None:
        if not self._is_local and (self._artifacts / path).exists():
            parent = str(Path(path).parent)
            self._client.log_artifact(
                self._id, str(self._artifacts / path), None if parent == "." else parent
            )

    def _status(self, ended: list[Any]) -> None:
        status, end_time_ms = ended
        self._client.set_terminated(self._id, status=status, end_time=end_time_ms)
