"""The formats of recordings: which files there are, and what is in one of them.

Shapes: E episodes, T rows, F features.
"""

import glob
import re
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv, parquet

from foretrace.errors import InputError

FORMATS = (".csv", ".csv.gz", ".parquet", ".npy", ".npz")
BROKEN_TABLE = (pa.ArrowException, OSError, ValueError)
# A damaged archive, or an encrypted one (RuntimeError) …
BROKEN_ARCHIVE = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
# … and an array whose header claims a huge shape (MemoryError, OverflowError) or is no Python literal.
BROKEN_HEADER = (MemoryError, OverflowError, SyntaxError, tokenize.TokenError)
BROKEN_ARRAY = (OSError, ValueError, *BROKEN_ARCHIVE, *BROKEN_HEADER)
LONGEST_HEADER = 2**20  # bytes
# Of a column at once: else a piece of a Parquet file, often a million rows, would be held as a whole.
READ_BYTES = 2**16
A_CSV = "a CSV file in UTF-8 with a header and the same number of values in each row"
A_PARQUET = "a Parquet file"


def find_files(path: str) -> list[Path]:
    """The recordings that a file's name, a folder or a pattern stands for, in natural order.

    Hidden files and those of other formats are passed over, unless they are named.

    Raises:
        InputError: If there are none, or if they differ in format.
    """
    known = ", ".join(FORMATS)
    try:
        named = Path(path).expanduser()
        if named.is_file():
            found = [named]
        else:
            pattern = f"{glob.escape(str(named))}/*" if named.is_dir() else str(named)
            # Path.glob would take no absolute pattern and would find hidden files.
            found = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207
            found = [file for file in found if file_format(file) in FORMATS and file.is_file()]
    except (OSError, ValueError, RuntimeError, re.error) as error:
        reason = str(error)[:100]
        raise InputError("data.path", expected="a path or a pattern", received=reason) from error
    if not found or file_format(found[0]) not in FORMATS:
        expected = f"a file, a folder or a pattern with recordings ({known})"
        remedy = f"Relative paths start at {Path.cwd()}; '**' stands for any folders below"
        raise InputError("data.path", expected=expected, received=f"none at {path!r}", remedy=remedy)
    formats = Counter(file_format(file).removesuffix(".gz") for file in found)
    if len(formats) > 1:
        received = ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
        remedy = "Choose one with a pattern, e.g. data.path='recordings/*.csv'"
        raise InputError("data.path", expected="files of one format", received=received, remedy=remedy)
    return sorted(set(found), key=_natural)


def file_format(file: Path) -> str:
    """The suffix that tells the format, in lower case.

    >>> file_format(Path("run.v2.CSV.gz")), file_format(Path("run.v2.txt"))
    ('.csv.gz', '.txt')
    """
    return next((known for known in FORMATS if file.name.lower().endswith(known)), file.suffix.lower())


def read_column_names(file: Path) -> list[str]:
    """Names of all columns of a CSV or Parquet file.

    Raises:
        InputError: If it cannot be read, has no header or has two columns of one name.
    """
    if file_format(file) == ".parquet":
        with readable(file, A_PARQUET, BROKEN_TABLE):
            names = list(parquet.read_schema(str(file)).names)
    else:
        # The first line alone: bad rows are left to `read_table`, which can number them.
        with readable(file, A_CSV, BROKEN_TABLE), _open(file) as stream:
            header = stream.read(LONGEST_HEADER).lstrip(b"\r\n")
            names = list(csv.read_csv(pa.BufferReader(re.split(rb"[\r\n]", header)[0] + b"\n")).column_names)
        if all(is_number(name) for name in names):
            received = f"numbers: {', '.join(names)[:60]}"
            raise InputError(str(file), expected="a header with the names of the columns", received=received)
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(str(file), expected="names used once", received=f"{twice!r} more than once")
    return names


def read_table(
    file: Path, names: Sequence[str], *, chosen: Sequence[str] | None, text: str | None
) -> pa.Table:
    """Columns of a CSV or Parquet file.

    Args:
        file: The file.
        names: All its columns.
        chosen: Those to read; None for all.
        text: A column that is not to be taken for numbers, so that 007 stays 007.

    Raises:
        InputError: If it cannot be read.
    """
    if file_format(file) == ".parquet":
        with readable(file, A_PARQUET, BROKEN_TABLE):
            # With the default partitioning, a folder named `year=2013` would become a column.
            return parquet.read_table(str(file), columns=chosen, partitioning=None)
    options = _csv_options(names, chosen, {} if text is None else {text: pa.string()})
    with readable(file, A_CSV, BROKEN_TABLE), _open(file) as stream:
        return csv.read_csv(stream, *options)


def read_batches(
    file: Path, names: Sequence[str], *, chosen: Sequence[str], types: dict[str, pa.DataType], rows: int
) -> Iterator[pa.RecordBatch]:
    """Columns of a CSV or Parquet file, some rows at a time: memory does not grow with the file.

    Args:
        file: The file.
        names: All its columns.
        chosen: Those to read.
        types: Of the columns of a CSV file, where its first megabyte shall not decide.
        rows: At most at once.

    Raises:
        InputError: If it cannot be read.
    """
    chosen = list(dict.fromkeys(chosen))
    if file_format(file) == ".parquet":
        with (
            readable(file, A_PARQUET, BROKEN_TABLE),
            parquet.ParquetFile(str(file), buffer_size=READ_BYTES, pre_buffer=False) as table,
        ):
            yield from table.iter_batches(batch_size=rows, columns=chosen)
        return
    options = _csv_options(names, chosen, types)
    with readable(file, A_CSV, BROKEN_TABLE), _open(file) as stream:
        for batch in csv.open_csv(stream, *options):
            for first in range(0, batch.num_rows, rows):
                yield batch.slice(first, rows)


def read_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an NPY or NPZ file by name, each of shape (T, F); one that is alone in its file has no name.

    Raises:
        InputError: If the file cannot be read, or an array is empty or holds something else than numbers.
    """
    with readable(file, "arrays of numbers, saved without pickle", BROKEN_ARRAY):
        if file_format(file) == ".npz":
            with file.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
                arrays = dict(archive.items())
        else:
            arrays = {"": np.lib.format.open_memmap(file, mode="r")}
    for name, array in arrays.items():
        _check_array(place(file, name), array, (1, 2) if name else (1, 2, 3))
    if not arrays:
        raise InputError(str(file), expected="one array per episode", received="no array")
    if "" in arrays and arrays[""].ndim == 3:
        arrays = {f"episode {e}": episode for e, episode in enumerate(arrays[""])}
    return {name: array.reshape(len(array), -1) for name, array in arrays.items()}


@contextmanager
def readable(where: Path | str, expected: str, broken: tuple[type[Exception], ...]) -> Iterator[None]:
    """Says what was expected instead of how a library failed."""
    try:
        yield
    except broken as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].replace("Row #", "line ")
        raise InputError(str(where), expected=expected, received=reason) from error


def place(file: Path, name: str) -> str:
    """How an error names an array in a file, or the file if the array has no name."""
    return f"{file}, {name!r}" if name else str(file)


def is_number(text: str) -> bool:
    """Whether a text can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_options(
    names: Sequence[str], chosen: Sequence[str] | None, types: dict[str, pa.DataType]
) -> tuple[csv.ReadOptions, csv.ParseOptions, csv.ConvertOptions]:
    one_thread = csv.ReadOptions(use_threads=False)  # several would lose the number of a bad line
    # A blank line is a missing value where there is one column, and nothing where there are more.
    lines = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1)
    nulls = csv.ConvertOptions().null_values
    convert = csv.ConvertOptions(
        include_columns=chosen,
        column_types=types or None,
        null_values=[*nulls, *(f" {null}" for null in nulls)],  # "1.5, NA": Arrow trims numbers only
        strings_can_be_null=True,
    )
    return one_thread, lines, convert


def _open(file: Path) -> pa.NativeFile:
    return pa.input_stream(str(file), compression="gzip" if file_format(file).endswith(".gz") else None)


def _natural(file: Path) -> tuple[list[list[tuple[int, str]]], str]:
    """Sorts file 10 behind file 9."""
    parts = [re.findall(r"\d+|\D+", part.lower()) for part in file.parts]
    keys = [[(int(text), "") if text.isdecimal() else (-1, text) for text in part] for part in parts]
    return keys, str(file)


def _check_array(where: str, array: Any, dimensions: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        received = f"type {array.dtype}" if isinstance(array, np.ndarray) else "something else"
        raise InputError(where, expected="an array of numbers", received=received)
    if array.ndim not in dimensions or not array.size:
        expected = "shape (T, F) or (E, T, F)" if 3 in dimensions else "shape (T, F)"
        raise InputError(where, expected=f"{expected}, not empty", received=f"shape {array.shape}")
