"""One file of recordings, whatever its format: the chosen columns as numbers.

Shapes: N rows, C chosen columns (features, then inputs).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretrace.data.arrays import place, read_arrays
from foretrace.data.formats import (
    BROKEN_TABLE,
    NUMBER,
    file_format,
    is_number,
    read_column_names,
    read_table,
    readable,
)
from foretrace.errors import InputError, suggest

LARGEST = 1e36  # float32 ends at 3.4e38: differences and forecasts need room above what was recorded
MOST_COLUMNS = 10_000  # a table of more is one whose rows and columns were exchanged
SAMPLE = 100_000  # rows by which a column of text is judged


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a file are wanted, by name.

    Args:
        features: Columns to predict; None for every numeric column that has no other use.
        inputs: Columns that are known but never predicted.
        episode: Column that tells the episodes of a file apart.
        order: Column by which the rows of an episode are sorted.

    >>> Columns(features=("temp",), inputs=("heating",), order="time").settings
    {'temp': 'data.features', 'heating': 'data.inputs', 'time': 'data.order_column'}
    """

    features: tuple[str, ...] | None
    inputs: tuple[str, ...] = ()
    episode: str | None = None
    order: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Each wanted column, with the setting that asks for it."""
        settings = dict.fromkeys(self.features or (), "data.features") | dict.fromkeys(
            self.inputs, "data.inputs"
        )
        for name, setting in ((self.order, "data.order_column"), (self.episode, "data.episode_column")):
            if name is not None:
                settings.setdefault(name, setting)
        return settings


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """The chosen columns of one file, or of one array in it.

    Args:
        where: The file, and the array if it has several, as errors name it.
        name: The array's name; empty if the file is one table.
        available: Every column's name.
        features: Names of the chosen columns to predict.
        values: Features, then inputs; NaN where missing, else finite. Shape (N, C), integer or floating.
        codes: Number of each row's episode, by first appearance. Shape (N,).
        labels: One label per episode; a single empty one without an episode column.
        order: What the rows are to be sorted by, without a missing one: numbers or time stamps. Shape (N,).

    >>> names, rows = ("x",), np.zeros((2, 1))
    >>> Table(where="a.npy", available=names, features=names, values=rows, codes=np.zeros(2, int)).labels
    ('',)
    """

    where: str
    name: str = ""
    available: tuple[str, ...]
    features: tuple[str, ...]
    values: npt.NDArray[Any]
    codes: npt.NDArray[Any]
    labels: tuple[str, ...] = ("",)
    order: npt.NDArray[Any] | None = None


def read_tables(file: Path, columns: Columns) -> list[Table]:
    """Reads the chosen columns of a file in one of the `FORMATS`.

    Returns:
        One table; or one per array of an NPZ file, or per episode of an NPY file of shape (E, T, F).

    Raises:
        InputError: If the file cannot be read, or if a column is absent, not numeric, infinite or too large.
    """
    if file_format(file) in (".npy", ".npz"):
        return [_from_array(array, name, file, columns) for name, array in read_arrays(file).items()]
    names = read_column_names(file)
    _check_names(str(file), names, columns)
    chosen = None if columns.features is None else list(columns.settings)
    return [_from_arrow(read_table(file, chosen=chosen, text=columns.episode), names, file, columns)]


def _from_arrow(table: pa.Table, names: Sequence[str], file: Path, columns: Columns) -> Table:
    features, where = columns.features, str(file)
    if features is None:
        free = [name for name in _free(names, columns) if not _is_row_number(name)]
        for name in free:
            _check_all_numbers(table[name], f"{where}, column {name!r}")
        features = tuple(name for name in free if _is_numeric(table[name].type))
    chosen = [to_numbers(table[name], f"{where}, column {name!r}") for name in features + columns.inputs]
    values = np.column_stack(chosen) if chosen else np.zeros((len(table), 0))
    return _assemble(where, "", names, features, values, table.__getitem__, columns)


def _from_array(array: npt.NDArray[Any], name: str, file: Path, columns: Columns) -> Table:
    where = place(file, name)
    names = [f"feature_{f}" for f in range(array.shape[1])]
    _check_names(where, names, columns)
    features = tuple(_free(names, columns)) if columns.features is None else columns.features
    places = {name: index for index, name in enumerate(names)}
    index = [places[name] for name in features + columns.inputs]
    values = array if index == list(range(len(names))) else array[:, index]

    def column(name: str) -> pa.ChunkedArray:
        kind = np.float64 if array.dtype.kind == "f" else np.int64
        return pa.chunked_array([array[:, places[name]].astype(kind)])

    return _assemble(where, name, names, features, values, column, columns)


def _assemble(
    where: str,
    name: str,
    available: Sequence[str],
    features: tuple[str, ...],
    values: npt.NDArray[Any],
    column: Callable[[str], pa.ChunkedArray],
    columns: Columns,
) -> Table:
    if not len(values):
        raise InputError(where, expected="at least one row of values", received="none")
    _check_values(where, values, features + columns.inputs)
    codes: npt.NDArray[Any] = np.zeros(len(values), np.int64)
    labels: tuple[str, ...] = ("",)
    if columns.episode is not None:
        codes, labels = _to_episodes(column(columns.episode), f"{where}, column {columns.episode!r}")
    order = None
    if columns.order is not None:
        order = to_order(column(columns.order), f"{where}, column {columns.order!r}")
    return Table(
        where=where,
        name=name,
        available=tuple(available),
        features=features,
        values=values,
        codes=codes,
        labels=labels,
        order=order,
    )


def to_numbers(column: pa.ChunkedArray, where: str) -> npt.NDArray[np.float64]:
    """Numbers of shape (N,), NaN where one is missing.

    Raises:
        InputError: If it holds something else.
    """
    if _is_numeric(column.type) or pa.types.is_boolean(column.type):
        numbers: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
        return numbers
    remedy = "Mend the value, or choose other columns by data.features and data.inputs"
    if not _is_text(column.type):
        raise InputError(where, expected="numbers", received=f"values of type {column.type}", remedy=remedy)
    texts = [(row, text) for row, text in enumerate(column.to_pylist(), start=1) if text is not None]
    row, text = next((pair for pair in texts if not is_number(pair[1])), texts[0])
    raise InputError(f"{where}, row {row}", expected="a number", received=f"the text {text!r}", remedy=remedy)


def _check_all_numbers(column: pa.ChunkedArray, where: str) -> None:
    """Refuses a column of numbers with a text among them: it would be left out as text, without a word."""
    if _is_text(column.type):
        sample = column.slice(0, SAMPLE).drop_null()
        numbers = pc.sum(pc.match_substring_regex(sample, f"^(?:{NUMBER})$")).as_py() or 0
        if 2 * numbers >= max(len(sample), 1):
            to_numbers(column, where)


def _to_episodes(column: pa.ChunkedArray, where: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The number of each row's episode, by first appearance, and the episodes' labels."""
    with readable(where, "text or numbers that name the episodes", BROKEN_TABLE):
        text = column.cast(pa.string()).combine_chunks()
    missing = pc.index(pc.is_in(text, value_set=pa.array([None, "", "nan"], pa.string())), True).as_py()
    if missing >= 0:
        remedy = "Name the row's episode or set data.episode_column=null"
        raise InputError(
            f"{where}, row {missing + 1}", expected="an episode", received="no value", remedy=remedy
        )
    encoded = text.dictionary_encode()
    return encoded.indices.to_numpy(), tuple(encoded.dictionary.to_pylist())


def to_order(column: pa.ChunkedArray, where: str) -> npt.NDArray[Any]:
    """Numbers or time stamps (as ``datetime64``, in UTC if they have a zone) of shape (N,).

    Raises:
        InputError: If it holds something else, or a value is missing.
    """
    if _is_text(column.type) and column.null_count < len(column):
        zone = "UTC" if pc.any(pc.match_substring_regex(column, r"(Z|[+-]\d\d:?\d\d)\s*$")).as_py() else None
        with readable(where, "numbers or ISO 8601 time stamps, all with or all without a zone", BROKEN_TABLE):
            column = column.cast(pa.timestamp("ns", zone))
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64(), safe=False)
    order: npt.NDArray[Any] = column.to_numpy()
    missing = np.flatnonzero(column.is_null(nan_is_null=True).to_numpy())
    if len(missing):
        received = f"no value in {len(missing)} of {len(column)} rows"
        raise InputError(f"{where}, row {missing[0] + 1}", expected="a value to sort by", received=received)
    if order.dtype.kind == "f" and not np.isfinite(order).all():
        row = int(np.flatnonzero(~np.isfinite(order))[0])
        raise InputError(
            f"{where}, row {row + 1}", expected="a finite value to sort by", received=f"{order[row]}"
        )
    if order.dtype.kind not in "iufMm":
        raise InputError(
            where, expected="numbers or time stamps with a date", received=f"values of type {column.type}"
        )
    return order


def _check_names(where: str, names: Sequence[str], columns: Columns) -> None:
    chosen = len(names) if columns.features is None else len(columns.settings)
    if chosen > MOST_COLUMNS:
        remedy = "Rows are steps in time and columns are features: is the table turned? Or name some in data.features"
        raise InputError(
            where, expected=f"at most {MOST_COLUMNS:,} columns", received=f"{chosen:,}", remedy=remedy
        )
    present = set(names)
    for name, setting in columns.settings.items():
        if name not in present:
            remedy = suggest(name, names)
            raise InputError(
                where, expected=f"a column {name!r} ({setting})", received="no such column", remedy=remedy
            )


def _check_values(where: str, values: npt.NDArray[Any], names: Sequence[str]) -> None:
    kind = values.dtype
    largest = (
        min(LARGEST, float(np.finfo(kind).max)) if kind.kind == "f" else LARGEST
    )  # float16 ends at 65504
    unfit = ~(np.abs(values) <= largest) & ~np.isnan(values)
    if unfit.any():
        row, column = np.argwhere(unfit)[0]
        raise InputError(
            f"{where}, column {names[column]!r}, row {row + 1}",
            expected=f"a finite number of at most {LARGEST:.1e} in size (float32)",
            received=f"{values[row, column]:g}",
            remedy="Mend the value, or leave it empty and choose data.missing",
        )


def _free(names: Sequence[str], columns: Columns) -> list[str]:
    """The columns that no setting asks for."""
    settings = columns.settings
    return [name for name in names if name not in settings]


def _is_text(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string))


def _is_numeric(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, or nothing at all: then each of them is missing."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(kind) for is_kind in tests)


def _is_row_number(name: str) -> bool:
    """Whether a column is the index that pandas writes without being asked."""
    return name == "" or name.startswith("__index_level_")
