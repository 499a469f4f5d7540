"""Arrays of numbers in NPY and NPZ files. Nothing is unpickled: a pickle may run anything.

Shapes: E episodes, T rows, F features.
"""

import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from foretrace.data.formats import file_format, readable
from foretrace.errors import InputError, is_plain

# A damaged archive, or an encrypted one (RuntimeError) …
BROKEN_ARCHIVE = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
# … and an array whose header claims a huge shape (MemoryError, OverflowError) or is no Python literal.
BROKEN_HEADER = (MemoryError, OverflowError, SyntaxError, TypeError, tokenize.TokenError)
BROKEN_ARRAY = (OSError, ValueError, *BROKEN_ARCHIVE, *BROKEN_HEADER)
LARGEST_ARCHIVE = 2**32  # bytes that an NPZ file is unpacked to, all at once; it may be a thousandth of that
ARRAYS = "arrays of numbers, saved without pickle"


def read_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an NPY or NPZ file by name, each of shape (T, F); one that is alone in its file has no name.

    Raises:
        InputError: If the file cannot be read, or an array is empty or holds something else than numbers.
    """
    with readable(file, ARRAYS, BROKEN_ARRAY):
        if file_format(file) == ".npz":
            with file.open("rb") as stream:
                _check_archive(file, stream)
                with np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
                    arrays = dict(archive.items())
        else:
            # Each episode of a mapped array would be one too, which takes five times the memory of a plain one.
            arrays = {"": map_array(file, mode="r").view(np.ndarray)}
    for name, array in arrays.items():
        _check_array(place(file, name), array, (1, 2) if name else (1, 2, 3))
    if not arrays:
        raise InputError(str(file), expected="one array per episode", received="no array")
    if "" in arrays and arrays[""].ndim == 3:
        arrays = {f"episode {e}": episode for e, episode in enumerate(arrays[""])}
    return {name: array.reshape(len(array), -1) for name, array in arrays.items()}


def map_array(file: Path, *, mode: Literal["r", "c"]) -> np.memmap[Any, Any]:
    """The array of an NPY file, where it lies; what is written to it is refused (r), or not kept (c)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*created on Python 2")  # and read as well as any other
        return np.lib.format.open_memmap(file, mode=mode)


def place(file: Path, name: str) -> str:
    """How an error names an array in a file, or the file if the array has no name."""
    return f"{file}, {name!r}" if name else str(file)


def _check_archive(file: Path, stream: IO[bytes]) -> None:
    """Reads the list of contents alone."""
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
    stream.seek(0)
    if (size := sum(entry.file_size for entry in entries)) > LARGEST_ARCHIVE:
        remedy = "Save the arrays as NPY files, one for each recording."
        raise InputError(str(file), expected=f"at most {LARGEST_ARCHIVE:,} bytes of arrays", received=f"{size:,}",
                         remedy=remedy)  # fmt: skip
    names = Counter(entry.filename.removesuffix(".npy") for entry in entries)
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename or not all(map(is_plain, name)):
            expected = "arrays alone (*.npy), named without control characters"
            raise InputError(str(file), expected=expected, received=repr(entry.filename))
        if names[name] > 1:
            raise InputError(str(file), expected="names used once", received=f"{name!r} more than once")


def _check_array(where: str, array: Any, dimensions: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        received = f"type {array.dtype}" if isinstance(array, np.ndarray) else "something else"
        raise InputError(where, expected="an array of numbers", received=received)
    if array.ndim not in dimensions or not array.size:
        expected = "shape (T, F) or (E, T, F)" if 3 in dimensions else "shape (T, F)"
        raise InputError(where, expected=f"{expected}, not empty", received=f"shape {array.shape}")
