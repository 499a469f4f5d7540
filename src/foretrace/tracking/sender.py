"""From the outbox to MLflow, on a thread of its own: training waits for no server."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from foretrace.tracking.outbox import Outbox, Record
from foretrace.tracking.stored import escape

RETRY_S = 2.0  # between two attempts at a store that does not answer
OFFLINE_S = 20.0  # that an ended process waits for such a store
SLOW_S = 300.0  # and for one record, e.g. a large file, by a store which does answer
MAX_METRICS, MAX_PARAMS = 1000, 100  # in one request, MLflow's limits
# A store that answers so will never take the record. Everything else is taken for an outage.
REFUSALS = {
    *("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "MALFORMED_REQUEST"),
    *("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"),
}


def write_record(record: Record, *, client: MlflowClient, run_id: str, uploads: Path | None) -> None:
    """Write one record of a run to MLflow.

    Files that it names are uploaded from ``uploads``, which is None where artifacts are written in place.

    Raises:
        MlflowException: If the store did not take it.
    """
    metrics = [Metric(escape(name), *point) for name, *point in record.get("metrics", ())]
    for first in range(0, len(metrics), MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS])
    params = [Param(escape(name), value) for name, value in record.get("params", {}).items()]
    for first in range(0, len(params), MAX_PARAMS):
        client.log_batch(run_id, params=params[first : first + MAX_PARAMS])
    if tags := record.get("tags"):
        client.log_batch(run_id, tags=[RunTag(escape(name), value) for name, value in tags.items()])
    if "dataset" in record:
        fields = dict(record["dataset"])
        context = InputTag(MLFLOW_DATASET_CONTEXT, fields.pop("context"))
        given = [DatasetInput(Dataset(**fields), tags=[context])]
        try:
            client.log_inputs(run_id, given)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow looks whether it knows the data, then adds them: another run may have done so in between.
            client.log_inputs(run_id, given)
    if uploads and (path := record.get("artifact")) and (uploads / path).exists():
        client.log_artifact(run_id, str(uploads / path), "/".join(Path(path).parts[:-1]) or None)
    if "status" in record:
        status, end_time_ms = record["status"]
        client.set_terminated(run_id, status=status, end_time=end_time_ms)


def send(outbox: Outbox, write: Callable[[Record], None]) -> tuple[int, Exception | None]:
    """Send everything that waits, in order; return how many records that were, and the first refusal.

    A record that the store will never take is quarantined and blocks no other.

    Raises:
        Exception: Whatever ``write`` raises in an outage; what was sent before stays noted.
    """
    number, refusal = 0, None
    for line, end in outbox.pending():
        record: Any = line
        try:
            record = json.loads(line)
            write(record)
        except Exception as error:
            if not _is_refusal(error):
                raise
            outbox.quarantine(record, f"{type(error).__name__}: {error}")
            refusal = refusal or error
        outbox.commit(end)
        number += 1
    return number, refusal


def _is_refusal(error: Exception) -> bool:
    """Return whether trying again later is of no use."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    return not isinstance(error, OSError | requests.RequestException)


class Sender:
    """A thread that sends what the outbox holds, see `send`, and keeps trying while the store is offline.

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
        """Raise what the store refused, e.g. as the run was deleted, once."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def wait(self, seconds: float) -> bool:
        """Wait until all is sent, but not for a store that is offline. Return whether all was sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._done == self._notified or self.offline, seconds)
            return self._done == self._notified

    def end(self) -> bool:
        """Send what is left, unless the store does not answer for too long. Return whether all was sent."""
        self._answered_at = time.monotonic()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        while self._thread.is_alive():
            if time.monotonic() - self._answered_at > (OFFLINE_S if self.offline else SLOW_S):
                break
            self._thread.join(0.2)
        return self._done == self._notified

    def _work(self) -> None:
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
                    self._changed.wait(RETRY_S)
                continue
            if self.offline:
                print("the tracking store answers again; what waited is delivered", file=sys.stderr)
            self._refusal = self._refusal or refusal
            with self._changed:
                self._done, self.offline = notified, False
                self._changed.notify_all()

    def _write_one(self, record: Record) -> None:
        try:
            self._write(record)
        finally:
            if not self.offline:
                self._answered_at = time.monotonic()
