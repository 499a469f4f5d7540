"""The formats of recordings: which files there are, and what is in one of them.

Shapes: E episodes, T rows, F features.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from foretrace.data.delimited import check_quotes, layout
from foretrace.errors import InputError, is_plain

FORMATS = (".csv", ".csv.gz", ".parquet", ".npy", ".npz")
BROKEN_TABLE = (pa.ArrowException, OSError, ValueError)
LONGEST_NAME = 1000  # characters
# Of a column at once: else a piece of a Parquet file, often a million rows, would be held as a whole.
READ_BYTES = 2**16
A_CSV = "a CSV file in UTF-8 with a header and the same number of values in each row"
A_PARQUET = "a Parquet file"
NUMBER = r"(?i)\s*[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)(e[+-]?[0-9]+)?\s*|\s*[+-]?(inf|infinity|nan)\s*"


def find_files(path: str) -> list[Path]:
    """The recordings that a file's name, a folder or a pattern stands for, in natural order.

    Hidden files and those of other formats are passed over, unless they are named. A file that is found under
    several names, by links, is taken once: else it might be in training and in test.

    Raises:
        InputError: If there are none, or if they differ in format, or one is no file or has a name not in UTF-8.
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
            found = [file for file in found if file_format(file) in FORMATS and not file.is_dir()]
        found = _once(found)
    except (OSError, ValueError, RuntimeError, re.error) as error:
        reason = str(error)[:100]
        raise InputError("data.path", expected="a path or a pattern", received=reason) from error
    if not found or file_format(found[0]) not in FORMATS:
        expected = f"a file, a folder or a pattern with recordings ({known})"
        remedy = f"Relative paths start at {Path.cwd()}; '**' stands for any folders below"
        raise InputError("data.path", expected=expected, received=f"none at {path!r}", remedy=remedy)
    for file in found:
        _check_file(file)
    formats = Counter(file_format(file).removesuffix(".gz") for file in found)
    if len(formats) > 1:
        received = ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
        remedy = "Choose one with a pattern, e.g. data.path='recordings/*.csv'"
        raise InputError("data.path", expected="files of one format", received=received, remedy=remedy)
    return sorted(found, key=_natural)


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
        with readable(file, A_CSV, BROKEN_TABLE):
            names = list(layout(file).names)
        if all(is_number(name) for name in names):
            received = f"numbers: {', '.join(names)[:60]}"
            raise InputError(str(file), expected="a header with the names of the columns", received=received)
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(str(file), expected="names used once", received=f"{twice!r} more than once")
    for name in names:
        if len(name) > LONGEST_NAME or not all(map(is_plain, name)):
            expected = f"names of at most {LONGEST_NAME} characters without control characters"
            raise InputError(str(file), expected=expected, received=f"{name!r}")
    return names


def read_table(file: Path, *, chosen: Sequence[str] | None, text: str | None) -> pa.Table:
    """Columns of a CSV or Parquet file.

    Args:
        file: The file.
        chosen: Columns to read; None for all.
        text: A column that is not to be taken for numbers, so that 007 stays 007.

    Raises:
        InputError: If it cannot be read.
    """
    if file_format(file) == ".parquet":
        with readable(file, A_PARQUET, BROKEN_TABLE):
            _check_rows(parquet.read_metadata(str(file)))
            # With the default partitioning, a folder named `year=2013` would become a column.
            return parquet.read_table(
                str(file), columns=chosen, partitioning=None, page_checksum_verification=True
            )
    with readable(file, A_CSV, BROKEN_TABLE):
        options = _csv_options(file, chosen, {} if text is None else {text: pa.string()})
        with _open(file) as stream:
            return csv.read_csv(stream, *options)


def read_batches(
    file: Path, *, chosen: Sequence[str], types: dict[str, pa.DataType], rows: int
) -> Iterator[pa.RecordBatch]:
    """Columns of a CSV or Parquet file, some rows at a time: memory does not grow with the file.

    Args:
        file: The file.
        chosen: Columns to read.
        types: Of the columns of a CSV file, where its first megabyte shall not decide.
        rows: At most at once.

    Raises:
        InputError: If it cannot be read.
    """
    chosen = list(dict.fromkeys(chosen))
    if file_format(file) == ".parquet":
        with (
            readable(file, A_PARQUET, BROKEN_TABLE),
            parquet.ParquetFile(
                str(file), buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
            ) as table,
        ):
            _check_rows(table.metadata)
            count = 0
            for batch in table.iter_batches(batch_size=rows, columns=chosen):
                count += batch.num_rows
                yield batch
            if count != table.metadata.num_rows:
                raise pa.ArrowInvalid(f"{count} rows of {table.metadata.num_rows} (corrupt file?)")
        return
    with readable(file, A_CSV, BROKEN_TABLE):
        options = _csv_options(file, chosen, types)
        with _open(file) as stream:
            for batch in csv.open_csv(stream, *options):
                for first in range(0, batch.num_rows, rows):
                    yield batch.slice(first, rows)


def _check_rows(told: parquet.FileMetaData) -> None:
    """Compares what the parts of a Parquet file say: of damage, one of Arrow's readers would lose rows, or another.

    Raises:
        pa.ArrowInvalid: If they differ.
    """
    groups = [told.row_group(number) for number in range(told.num_row_groups)]
    flat = [f for f in range(told.num_columns) if told.schema.column(f).max_repetition_level == 0]
    rows = sum(group.num_rows for group in groups)
    if rows != told.num_rows or any(g.column(f).num_values != g.num_rows for g in groups for f in flat):
        raise pa.ArrowInvalid("numbers of rows that contradict each other (corrupt file?)")


@contextmanager
def readable(where: Path | str, expected: str, broken: tuple[type[Exception], ...]) -> Iterator[None]:
    """Says what was expected instead of how a library failed."""
    try:
        yield
    except InputError:
        raise
    except broken as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].replace("Row #", "line ")
        raise InputError(str(where), expected=expected, received=reason) from error


def is_number(text: str) -> bool:
    """Whether a text looks like a number, with a point or a comma before its decimals.

    >>> is_number("-1.5e3"), is_number("1,5"), is_number("1_000")
    (True, True, False)
    """
    return re.fullmatch(NUMBER, text) is not None


def _csv_options(
    file: Path, chosen: Sequence[str] | None, types: dict[str, pa.DataType]
) -> tuple[csv.ReadOptions, csv.ParseOptions, csv.ConvertOptions]:
    check_quotes(file)
    written = layout(file)
    one_thread = csv.ReadOptions(use_threads=False)  # several would lose the number of a bad line
    # A blank line is a missing value where there is one column, and nothing where there are more.
    lines = csv.ParseOptions(
        delimiter=written.separator, newlines_in_values=True, ignore_empty_lines=len(written.names) > 1
    )
    nulls = csv.ConvertOptions().null_values
    convert = csv.ConvertOptions(
        include_columns=chosen,
        column_types=types or None,
        null_values=[*nulls, *(f" {null}" for null in nulls)],  # "1.5, NA": Arrow trims numbers only
        strings_can_be_null=True,
        decimal_point=written.decimal,
    )
    return one_thread, lines, convert


def _open(file: Path) -> pa.NativeFile:
    return pa.input_stream(str(file), compression="gzip" if file_format(file).endswith(".gz") else None)


def _once(files: Sequence[Path]) -> list[Path]:
    """Each file under one name, if possible its own and not that of a link."""
    own = sorted(files, key=Path.is_symlink)
    return list({os.path.realpath(file): file for file in reversed(own)}.values())


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise InputError(str(file), expected="a file", received="a link to nothing, a pipe or a device")
    if not all(map(is_plain, str(file))):
        raise InputError(str(file), expected="a name in UTF-8 without control characters", received="another",
                         remedy="Rename the file.")  # fmt: skip


def _natural(file: Path) -> tuple[list[list[tuple[int, str]]], str]:
    """Sorts file 10 behind file 9."""
    parts = [re.findall(r"\d+|\D+", part.lower()) for part in file.parts]
    keys = [[(int(text), "") if text.isdecimal() else (-1, text) for text in part] for part in parts]
    return keys, str(file)
