"""Records on their way to MLflow: on disk until the store has them, sent by a thread that training never waits for.

A record is one line of JSON. Sending one twice is harmless (MLflow keeps one of two equal points), so a process may
die at any moment between sending a record and noting that down.
"""

import json
import os
import posixpath
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

Record = dict[str, Any]
Write = Callable[[Record], None]

RECORDS, REFUSED = "records.jsonl", "refused.jsonl"
RETRY_S = 2.0  # between two attempts at a store that does not answer
OFFLINE_S = 20.0  # that an ended process waits for such a store
SLOW_S = 300.0  # and for one record, e.g. a large file, by a store which does answer
MAX_METRICS, MAX_PARAMS = 1000, 100  # in one request, MLflow's limits
LONGEST = 250  # characters of a name, too
# A store that answers so will never take the record. Everything else is taken for an outage.
REFUSALS = {
    *("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "MALFORMED_REQUEST"),
    *("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"),
}


class Outbox:
    """Records in the order in which they were made, and how many of them were sent.

    Args:
        folder: Holds ``records.jsonl`` and ``delivered``; is made with the first record.

    >>> import tempfile
    >>> outbox = Outbox(Path(tempfile.mkdtemp()) / "run")
    >>> outbox.append({"tags": {"color": "blue"}})
    >>> outbox.send(print), outbox.send(print)
    {'tags': {'color': 'blue'}}
    ((1, None), (0, None))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records, self._sent = folder / RECORDS, folder / "delivered"
        if self._records.exists():
            # Whoever was writing a last line without an end is dead, and never counted on it.
            with self._records.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def append(self, record: Record, *, sync: bool = False) -> None:
        """Write a record down, and with ``sync`` wait until it is safe from a power cut.

        Raises:
            OSError: If it cannot be written; then nothing of it is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record, separators=(",", ":")) + "\n"
        with self._records.open("ab", buffering=0) as file:
            complete, left = file.tell(), memoryview(line.encode())
            try:
                while left:  # without a buffer, a file may take a part and then be full
                    left = left[file.write(left) :]
                if sync:
                    os.fsync(file.fileno())
            except BaseException as error:  # no half line is left for the next record to follow
                file.truncate(complete)
                if isinstance(error, OSError):  # e.g. a full disk, of which it does not say where
                    raise OSError(error.errno, error.strerror, str(self._records)) from error
                raise

    def send(self, write: Write) -> tuple[int, Exception | None]:
        """Write everything that waits, in order; return how many records that were, and the first refusal.

        A record that the store will never take is kept in ``refused.jsonl`` and blocks no other.

        Raises:
            Exception: Whatever ``write`` raises in an outage; what was sent before stays noted.
        """
        number, refusal = 0, None
        if not self._records.exists():
            return number, refusal
        noted = self._sent.read_text() if self._sent.exists() else ""
        with self._records.open("rb") as file:
            file.seek(int(noted) if noted.endswith("\n") else 0)  # a torn note: all of it again
            while (line := file.readline()).endswith(b"\n"):  # a line without an end is being written
                record: Any = line.decode(errors="replace").rstrip("\n")
                try:
                    record = json.loads(record)
                    write(record)
                except Exception as error:
                    is_answer = isinstance(error, MlflowException) and error.error_code in REFUSALS
                    if isinstance(error, MlflowException | OSError) and not is_answer:
                        raise
                    self._quarantine(record, f"{type(error).__name__}: {error}")
                    refusal = refusal or error
                self._sent.write_text(f"{file.tell()}\n")
                number += 1
        return number, refusal

    def _quarantine(self, record: Any, reason: str) -> None:
        print(f"a record was refused and set aside ({' '.join(reason.split())[:160]})", file=sys.stderr)
        with (self.folder / REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "record": record}) + "\n")

    def remove(self) -> None:
        """Remove everything that was sent; what was refused stays."""
        self._records.unlink(missing_ok=True)
        self._sent.unlink(missing_ok=True)


class Sender:
    """A thread that sends what the outbox holds, and keeps trying while the store is offline.

    Attributes:
        offline: Whether the store did not answer when it was last asked.
    """

    def __init__(self, outbox: Outbox, write: Write) -> None:
        self._outbox, self._write = outbox, write
        self._answered_at = time.monotonic()
        self._changed = threading.Condition()
        self._appended = self._done = 0  # records appended, and how many of them are dealt with
        self._ending = self.offline = False
        self._refusal: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)
        self._thread.start()

    def append(self, record: Record, *, sync: bool = False) -> None:
        """Write a record to the outbox, see there; it is sent soon."""
        self._outbox.append(record, sync=sync)
        with self._changed:
            self._appended += 1
            self._changed.notify_all()

    def raise_refusal(self) -> None:
        """Raise what the store refused, e.g. as the run was deleted, once."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def wait(self, seconds: float) -> bool:
        """Wait until all is sent, but not for a store that is offline. Return whether all was sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._done == self._appended or self.offline, seconds)
            return self._done == self._appended

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
        return self._done == self._appended

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done < self._appended or self._ending)
                if (appended := self._appended) == self._done:
                    return
            try:
                _, refusal = self._outbox.send(self._write_one)
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
                self._done, self.offline = appended, False
                self._changed.notify_all()

    def _write_one(self, record: Record) -> None:
        try:
            self._write(record)
        finally:
            if not self.offline:
                self._answered_at = time.monotonic()


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


def escape(name: str) -> str:
    """Return a name with `_x<code>_` for each character that MLflow does not take.

    >>> escape("skill/CO2 (%)"), escape("test/mse"), unescape(escape("a//b%"))
    ('skill/CO2 _x28__x25__x29_', 'test/mse', 'a//b%')
    """
    text = _escaped(name, illegal=r"[^\w/.\- :]")
    # A name with a slash has to be a normal relative path.
    if posixpath.normpath(text) != text or text == "." or text.startswith(("/", "..")):
        text = _escaped(name, illegal=r"[^\w\- :]")
    return text[:LONGEST]


def _escaped(name: str, *, illegal: str) -> str:
    """Replace what is illegal, and each ``_`` that would then read as the beginning of a replacement."""
    ambiguous = rf"_(?=x[0-9a-f]+(?:_|{illegal}))"
    return re.sub(f"{illegal}|{ambiguous}", lambda found: f"_x{ord(found[0]):x}_", name)


def unescape(name: str) -> str:
    """Return the name that was escaped, if it was no longer than MLflow takes."""
    return re.sub("_x([0-9a-f]{1,6})_", lambda found: chr(min(int(found[1], 16), 0x10FFFF)), name)
