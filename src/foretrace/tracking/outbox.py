"""What the tracker is to be told, on disk in order until it was told.

A record is one line of JSON. Telling one twice is harmless (MLflow keeps one of two equal points), so a process
may die at any moment between telling and noting it down.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

Record = dict[str, Any]

REFUSED = "refused.jsonl"
UNREADABLE = "unreadable"  # the kind of a line that is not what was written


class Outbox:
    """Records in the order in which they were made, and how many of them were delivered.

    Args:
        folder: Where ``records.jsonl`` and ``delivered`` lie; it is made with the first record.

    >>> import tempfile
    >>> journal = Outbox(Path(tempfile.mkdtemp()) / "run")
    >>> journal.append([{"tags": {"colour": "blue"}}])
    >>> [(record, end)] = journal.pending()
    >>> journal.commit_delivered(end)
    >>> record["tags"], list(journal.pending())
    ({'colour': 'blue'}, [])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records, self._delivered = folder / "records.jsonl", folder / "delivered"
        self._drop_torn_line()

    @property
    def exists(self) -> bool:
        """Whether there is anything on disk."""
        return self._records.exists()

    def append(self, records: Sequence[Record], *, sync: bool = False) -> None:
        """Writes records down.

        Args:
            records: In order.
            sync: Also wait until they are safe from a power cut.

        Raises:
            OSError: If they cannot be written; then none of them is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        with self._records.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                _write(file, lines.encode())
                if sync:
                    os.fsync(file.fileno())
            except BaseException as error:  # no half line is left for the next record to follow
                file.truncate(whole)
                if isinstance(error, OSError):  # e.g. a full disk, of which it does not say where
                    raise OSError(error.errno, error.strerror, str(self._records)) from error
                raise

    def pending(self) -> Iterator[tuple[Record, int]]:
        """What was not delivered, oldest first, each with its end in the file in bytes."""
        if not self.exists:
            return
        with self._records.open("rb") as file:
            file.seek(self._position())
            while (line := file.readline()).endswith(b"\n"):  # a line without an end is being written
                yield _record(line), file.tell()

    def commit_delivered(self, end: int) -> None:
        """Notes that everything before a place in the file, in bytes, is with the tracker."""
        self._delivered.write_text(f"{end}\n")

    def quarantine(self, record: Record, reason: str) -> None:
        """Keeps, in ``refused.jsonl``, what the tracker will never take."""
        with (self.folder / REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "record": record}) + "\n")

    def remove(self) -> None:
        """Forgets everything that is delivered; what was refused stays."""
        self._records.unlink(missing_ok=True)
        self._delivered.unlink(missing_ok=True)

    def _position(self) -> int:
        try:
            text = self._delivered.read_text()
        except FileNotFoundError:
            return 0
        return int(text) if text.endswith("\n") else 0  # a torn note: tell all of it again

    def _drop_torn_line(self) -> None:
        """Whoever was writing it is dead, and never counted on it."""
        if not self.exists:
            return
        with self._records.open("rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)


def _write(file: BinaryIO, content: bytes) -> None:
    """All of it: without a buffer, a file may take a part and then be full."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _record(line: bytes) -> Record:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {UNREADABLE: line.decode(errors="replace")}
