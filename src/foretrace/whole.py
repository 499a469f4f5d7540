"""Files that are whole or absent, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foretrace.errors import InputError


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


def check_target(target: Path, *, overwrite: bool) -> None:
    """Sees whether a file that the user asked for can be made.

    Raises:
        InputError: If it exists and is not to be replaced, or there is no such folder.
    """
    if not target.parent.is_dir():
        raise InputError("output", expected="a folder that exists", received=str(target.parent))
    if target.is_dir() or (target.exists() and not overwrite):
        remedy = "" if target.is_dir() else "Set overwrite=true to replace it."
        received = f"{target}, which exists"
        raise InputError("output", expected="the path of a new file", received=received, remedy=remedy)
