"""Files that are whole or absent, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Gives the path of a file beside the target; at the end of the block, it takes the target's name.

    If the block raises, there is nothing new, and what was there before is still there.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, whole_file(Path(folder) / "a.txt") as aside:
    ...     _ = aside.write_text("all of it")
    """
    aside = target.with_name(f".{target.name}.part")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a new name is safe from a power cut once its folder is on the disk
    finally:
        os.close(folder)
