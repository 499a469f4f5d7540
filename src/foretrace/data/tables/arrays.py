"""Arrays of numbers in NPY and NPZ files. Nothing is unpickled: a pickle may run anything.

Shapes: E episodes, T rows, F features.
"""

import shutil
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.errors import UserError, is_plain

BROKEN = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, OSError, ValueError, MemoryError, OverflowError,
          SyntaxError, TypeError, tokenize.TokenError)  # fmt: skip
MOST_COLUMNS = 10_000
LARGEST_ARCHIVE = 2**32  # bytes that an NPZ file is unpacked to; it may be a thousandth of that


def open_arrays(file: Path, scratch: Path | None = None) -> dict[str, npt.NDArray[Any]]:
    """Arrays (T, F) of a file by name, mapped; one that is alone in its file has no name.

    Args:
        file: In NPY or NPZ format.
        scratch: Folder into which an NPZ file is unpacked; an NPY file needs none.

    Raises:
        UserError: If the file cannot be read, or an array is empty or holds something else than numbers.
    """
    try:
        arrays = (
            _unpack(file, scratch) if scratch and file.suffix.lower() == ".npz" else {"": map_array(file)}
        )
    except BROKEN as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file}: no arrays of numbers, saved without pickle: {text}") from error
    if not arrays:
        raise UserError(f"{file}: no array in it")
    for name, array in arrays.items():
        _check(f"{file}, {name!r}" if name else str(file), array, most=2 if name else 3)
    if "" in arrays and arrays[""].ndim == 3:
        arrays = {f"episode {e}": episode for e, episode in enumerate(arrays[""])}
    return {name: array.reshape(len(array), -1) for name, array in arrays.items()}


def map_array(file: Path) -> npt.NDArray[Any]:
    """Return the array of an NPY file, where it lies; changes would stay in memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*created on Python 2")  # and read as well as any other
        return np.lib.format.open_memmap(file, mode="c").view(np.ndarray)


def check_width(where: str, columns: int) -> None:
    """Refuse a table of so many columns that its rows and columns were probably exchanged."""
    if columns > MOST_COLUMNS:
        hint = "Rows are steps in time and columns are features: is the table turned?"
        raise UserError(f"{where}: {columns:,} columns, and at most {MOST_COLUMNS:,} can be read", hint=hint)


def _unpack(file: Path, scratch: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()  # read before anything is unpacked
    names = Counter(entry.filename.removesuffix(".npy") for entry in entries)
    if (size := sum(entry.file_size for entry in entries)) > LARGEST_ARCHIVE:
        hint = "Save the arrays as NPY files, one for each recording"
        raise UserError(
            f"{file}: {size:,} bytes of arrays, and at most {LARGEST_ARCHIVE:,} are unpacked", hint=hint
        )
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename or not all(map(is_plain, name)):
            raise UserError(f"{file}: {entry.filename!r} in it is no array (*.npy) with a plain name")
        if names[name] > 1:
            raise UserError(f"{file}: two arrays called {name!r} in it")
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for entry in entries:
            unpacked = scratch / f"{len(list(scratch.iterdir()))}.npy"
            with archive.open(entry) as member, unpacked.open("wb") as out:
                shutil.copyfileobj(member, out, 2**20)
            arrays[entry.filename.removesuffix(".npy")] = map_array(unpacked)
    return arrays


def _check(where: str, array: Any, *, most: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = f"type {array.dtype}" if isinstance(array, np.ndarray) else "something else"
        raise UserError(f"{where}: not an array of numbers but {found}")
    if not 1 <= array.ndim <= most or not array.size:
        shapes = "(T, F) or (E, T, F)" if most == 3 else "(T, F)"
        raise UserError(f"{where}: shape {array.shape}, and {shapes} with rows and columns is needed")
    check_width(where, array.shape[-1] if array.ndim > 1 else 1)
