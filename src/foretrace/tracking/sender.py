"""From the outbox to MLflow, on a thread of its own: training waits for no server."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from foretrace.tracking.names import escape
from foretrace.tracking.outbox import UNREADABLE, Outbox, Record

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between two attempts at a store that does not answer
MAX_METRICS, MAX_PARAMS = 1000, 100  # in one request, MLflow's limits
# A store that answers so will never take the record. Everything else is taken for an outage.
REFUSALS = {
    *("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "MALFORMED_REQUEST"),
    *("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"),
}


class StoreWriter:
    """Writes records of one run to MLflow.

    Args:
        client: Client of the store.
        run_id: The run.
        uploads: Folder whose files are uploaded when a record names them; None if artifacts are written in place.
    """

    def __init__(self, client: MlflowClient, run_id: str, *, uploads: Path | None) -> None:
        self._client, self._id, self._uploads = client, run_id, uploads

    def write(self, record: Record) -> None:
        """Write one record.

        Raises:
            MlflowException: If the store did not take it.
        """
        if UNREADABLE in record:
            raise ValueError("a line of the outbox is damaged")
        client, run_id = self._client, self._id
        metrics = [Metric(escape(name), *point) for name, *point in record.get("metrics", ())]
        for first in range(0, len(metrics), MAX_METRICS):
            client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS])
        params = [Param(escape(name), value) for name, value in record.get("params", {}).items()]
        for first in range(0, len(params), MAX_PARAMS):
            client.log_batch(run_id, params=params[first : first + MAX_PARAMS])
        if tags := record.get("tags"):
            client.log_batch(run_id, tags=[RunTag(escape(name), value) for name, value in tags.items()])
        if "dataset" in record:
            self._write_dataset(**record["dataset"])
        if self._uploads and (path := record.get("artifact")) and (self._uploads / path).exists():
            client.log_artifact(run_id, str(self._uploads / path), "/".join(Path(path).parts[:-1]) or None)
        if "status" in record:
            status, end_time_ms = record["status"]
            client.set_terminated(run_id, status=status, end_time=end_time_ms)

    def _write_dataset(self, *, context: str, **fields: str) -> None:
        given = [DatasetInput(Dataset(**fields), tags=[InputTag(MLFLOW_DATASET_CONTEXT, context)])]
        try:
            self._client.log_inputs(self._id, given)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow looks whether it knows the data, then adds them: another run may have done so in between.
            self._client.log_inputs(self._id, given)


def send(outbox: Outbox, write: Callable[[Record], None]) -> tuple[int, Exception | None]:
    """Send everything that waits, in order; return how many records that were, and the first refusal.

    Args:
        outbox: What waits. A record that the store will never take is quarantined there and blocks no other.
        write: Writes one record.

    Raises:
        Exception: Whatever ``write`` raises in an outage; what was sent before stays noted.
    """
    number, refusal = 0, None
    for record, end in outbox.pending():
        try:
            write(record)
        except Exception as error:
            if not is_refusal(error):
                raise
            outbox.quarantine(record, f"{type(error).__name__}: {error}")
            refusal = refusal or error
        outbox.commit(end)
        number += 1
    return number, refusal


def is_refusal(error: Exception) -> bool:
    """Return whether trying again later is of no use."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    return not isinstance(error, OSError | requests.RequestException)


class Sender:
    """Sends what the outbox holds, and keeps trying while the store is offline.

    Args:
        outbox: What is to be sent.
        write: Writes one record; raises if the store did not take it.

    Attributes:
        offline: Whether the store did not answer when it was last asked.
    """

    def __init__(self, outbox: Outbox, write: Callable[[Record], None]) -> None:
        self._outbox, self._write = outbox, write
        self._answered_at = time.monotonic()
        self._changed = threading.Condition()
        self._notified = self._done = 0  # calls of `notify`, and how many of them are dealt with
        self._ending = self.offline = False
        self._refusal: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Say that the outbox has grown."""
        with self._changed:
            self._notified += 1
            self._changed.notify_all()

    def raise_refusal(self) -> None:
        """Raise what the store refused, once.

        Raises:
            Exception: If it refused a record, e.g. because the run was deleted. The record is set aside.
        """
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def wait(self, seconds: float) -> bool:
        """Wait until all is sent, but not for a store that is offline. Return whether all was sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._done == self._notified or self.offline, seconds)
            return self._done == self._notified

    def end(self, *, offline_s: float, slow_s: float) -> bool:
        """Send what is left and stop. Return whether all was sent.

        Args:
            offline_s: How long it tries while the store does not answer.
            slow_s: How long one record may take, e.g. the upload of a large file.
        """
        self._answered_at = time.monotonic()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        while self._thread.is_alive():
            if time.monotonic() - self._answered_at > (offline_s if self.offline else slow_s):
                break
            self._thread.join(0.2)
        return self._done == self._notified

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done < self._notified or self._ending)
                if (notified := self._notified) == self._done:
                    return
            try:
                _, refusal = send(self._outbox, self._write_one)
            except Exception as error:
                if not self.offline:
                    reason = " ".join(str(error).split())[:160]
                    told = f"the tracking store does not answer; records wait on disk ({reason})"
                    print(told, file=sys.stderr)
                with self._changed:
                    self.offline = True
                    self._changed.notify_all()
                    self._changed.wait(min(pause_s, 1.0) if self._ending else pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            if self.offline:
                print("the tracking store answers again; what waited is delivered", file=sys.stderr)
            pause_s, self._refusal = FIRST_PAUSE_S, self._refusal or refusal
            with self._changed:
                self._done, self.offline = notified, False
                self._changed.notify_all()

    def _write_one(self, record: Record) -> None:
        try:
            self._write(record)
        finally:
            if not self.offline:
                self._answered_at = time.monotonic()
