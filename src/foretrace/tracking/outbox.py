"""Records that wait on disk, in order, until the tracking store has them.

A record is one line of JSON. Sending one twice is harmless (MLflow keeps one of two equal points), so a process may
die at any moment between sending a record and noting that down.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]

RECORDS, REFUSED = "records.jsonl", "refused.jsonl"


class Outbox:
    """Records in the order in which they were made, and how many of them were sent.

    Args:
        folder: Holds ``records.jsonl`` and ``delivered``; is made with the first record.

    >>> import tempfile
    >>> outbox = Outbox(Path(tempfile.mkdtemp()) / "run")
    >>> outbox.append({"tags": {"color": "blue"}})
    >>> [(line, end)] = outbox.pending()
    >>> outbox.commit(end)
    >>> line, list(outbox.pending())
    ('{"tags":{"color":"blue"}}', [])
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

    def pending(self) -> Iterator[tuple[str, int]]:
        """Yield the lines that were not sent, oldest first, each with its end in the file in bytes."""
        if not self._records.exists():
            return
        noted = self._sent.read_text() if self._sent.exists() else ""
        with self._records.open("rb") as file:
            file.seek(int(noted) if noted.endswith("\n") else 0)  # a torn note: all of it again
            while (line := file.readline()).endswith(b"\n"):  # a line without an end is being written
                yield line.decode(errors="replace").rstrip("\n"), file.tell()

    def commit(self, end: int) -> None:
        """Note that everything before a place in the file, in bytes, is with the store."""
        self._sent.write_text(f"{end}\n")

    def quarantine(self, record: Any, reason: str) -> None:
        """Keep, in ``refused.jsonl``, what the store will never take, and say so."""
        print(f"a record was refused and set aside ({' '.join(reason.split())[:160]})", file=sys.stderr)
        with (self.folder / REFUSED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "record": record}) + "\n")

    def remove(self) -> None:
        """Remove everything that was sent; what was refused stays."""
        self._records.unlink(missing_ok=True)
        self._sent.unlink(missing_ok=True)
