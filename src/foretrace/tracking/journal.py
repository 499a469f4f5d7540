"""What the tracker is to be told, on disk in order until it was told.

A record is one line of JSON. Telling one twice is harmless (MLflow keeps one of two equal points), so a process
may die at any moment between telling and noting it down.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """Records in the order in which they were made, and how many of them were delivered.

    Args:
        folder: Where ``records.jsonl`` and ``delivered`` lie; it is made with the first record.

    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "run")
    >>> journal.append([{"tags": {"colour": "blue"}}])
    >>> [(record, end)] = journal.pending()
    >>> journal.note_delivered(end)
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
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        with self._records.open("a", encoding="utf-8") as file:
            file.write(lines)
            if sync:
                file.flush()
                os.fsync(file.fileno())

    def pending(self) -> Iterator[tuple[Record, int]]:
        """What was not delivered, oldest first, each with its end in the file in bytes."""
        if not self.exists:
            return
        with self._records.open("rb") as file:
            file.seek(self._position())
            while (line := file.readline()).endswith(b"\n"):  # a line without an end is being written
                yield json.loads(line), file.tell()

    def note_delivered(self, end: int) -> None:
        """Notes that everything before a place in the file, in bytes, is with the tracker."""
        self._delivered.write_text(f"{end}\n")

    def remove(self) -> None:
        """Forgets everything, once it is delivered."""
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
