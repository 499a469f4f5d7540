"""What hostile input meets: the reading layer, as the commands call it."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from foretrace.config import Reading
from foretrace.data.sequences import Sequences
from foretrace.data.tables.read import read_recordings
from foretrace.errors import UserError, is_plain

SLOWEST_S = 5


def read(path: Path | str, **choices: object) -> Sequences:
    """Reads recordings as `data=files` does."""
    with tempfile.TemporaryDirectory() as cache:
        return read_recordings(str(path), Reading(**choices), cache=Path(cache)).sequences


def refused(path: Path | str, **choices: object) -> str:
    """What is said about recordings that cannot be used: one readable line, soon."""
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        read(path, **choices)
    assert time.monotonic() - begun < SLOWEST_S, str(caught.value)
    return readable(caught.value)


def read_or_refused(path: Path | str, **choices: object) -> Sequences | None:
    """Recordings that are whole, or None where one readable line is said about them."""
    try:
        recordings = read(path, **choices)
    except UserError as error:
        readable(error)
        return None
    assert np.isfinite(recordings.values).all()
    return recordings


def readable(error: UserError) -> str:
    """What is said: one line of a readable length, with nothing that a terminal would obey."""
    line = str(error)
    assert all(map(is_plain, line)), line
    assert len(line) < 1300
    assert ": " in line
    return line


def put(folder: Path, content: str | bytes, name: str = "run.csv") -> Path:
    """Writes a file."""
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file
