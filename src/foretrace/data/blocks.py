"""Recordings of any size, some rows at a time.

Shapes: T rows of a block, C columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretrace.data.arrays import place, read_arrays
from foretrace.data.formats import (
    BROKEN_TABLE,
    file_format,
    find_files,
    is_number,
    read_batches,
    read_column_names,
    readable,
)
from foretrace.data.tables.files import stems
from foretrace.errors import InputError, suggest

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """Rows of one episode that follow those of the block before, if that is of the same episode.

    Args:
        episode: Its name.
        values: The columns asked for, NaN where missing. Shape (T, C).
        order: What the rows are sorted by: numbers or time stamps. Shape (T,), or None if that is not known.
        where: The file, as errors name it.
        row: Rows of the file before these.

    >>> block = Block(episode="a", values=np.zeros((3, 1), np.float32), where="a.csv")
    >>> [part.values.shape for part in block.cut([1])]
    [(1, 1), (2, 1)]
    """

    episode: str
    values: FloatArray
    order: npt.NDArray[Any] | None = None
    where: str
    row: int = 0

    def cut(self, rows: Sequence[int]) -> "list[Block]":
        """Parts that begin at the given rows of it."""
        edges = [0, *rows, len(self.values)]
        return [
            replace(
                self,
                values=self.values[first:end],
                order=None if self.order is None else self.order[first:end],
                row=self.row + first,
            )
            for first, end in pairwise(edges)
        ]


def read_blocks(
    path: str, columns: Sequence[str], *, episode_column: str | None, order_column: str | None, rows: int
) -> Iterator[Block]:
    """Reads recordings as `foretrace.data.files.read_files` does, but a block at a time and in the order of the file.

    An array of an NPZ file is read as a whole, all else in blocks. Arrays have the columns ``feature_0``, … or, if
    the names asked for are others, exactly those.

    Args:
        path: A file, a folder or a pattern.
        columns: Names of the columns, C.
        episode_column: Column whose values tell the episodes of a file apart; None: one episode per file.
        order_column: Column with the time of each row; None if there is none.
        rows: At most in a block, T.

    Raises:
        InputError: If files cannot be read as asked for, or the rows of an episode are not together.
    """
    files = find_files(path)
    if episode_column in columns:
        expected = "a column that the model does not read"
        raise InputError("data.episode_column", expected=expected, received=str(episode_column))
    for file, stem in zip(files, stems(files), strict=True):
        alone = len(files) == 1
        if file_format(file) in (".npy", ".npz"):
            if episode_column is not None or order_column is not None:
                remedy = "Leave data.episode_column and data.order_column out."
                raise InputError(str(file), expected="named columns", received="an array", remedy=remedy)
            yield from _of_arrays(file, stem, columns, rows, alone=alone)
        else:
            prefix = "" if alone and episode_column else stem
            yield from _of_table(file, prefix, columns, episode_column, order_column, rows)


def _of_arrays(file: Path, stem: str, columns: Sequence[str], rows: int, *, alone: bool) -> Iterator[Block]:
    for name, array in read_arrays(file).items():
        where = place(file, name)
        names = [f"feature_{f}" for f in range(array.shape[1])]
        if all(column in names for column in columns):
            index = [names.index(column) for column in columns]
        elif len(names) == len(columns):
            index = list(range(len(names)))
        else:
            expected = f"{len(columns)} columns: {', '.join(columns)}"
            raise InputError(where, expected=expected, received=f"{len(names)}")
        episode = "/".join(filter(None, ("" if alone and name else stem, name)))
        for first in range(0, len(array), rows):
            values = array[first : first + rows, index].astype(np.float32)
            yield Block(episode=episode, values=values, where=where, row=first)


def _of_table(
    file: Path, prefix: str, columns: Sequence[str], episode: str | None, order: str | None, rows: int
) -> Iterator[Block]:
    names, where, before = read_column_names(file), str(file), 0
    _check_names(where, names, columns, {"data.episode_column": episode, "data.order_column": order})
    further = [name for name in (episode, order) if name is not None]
    types = dict.fromkeys(columns, pa.float64()) | ({episode: pa.string()} if episode else {})
    ended, last = set[str](), None
    for batch in read_batches(file, chosen=[*columns, *further], types=types, rows=rows):
        with np.errstate(over="ignore"):
            numbers = [to_numbers(_column(batch, name), f"{where}, column {name!r}") for name in columns]
            values = np.stack(numbers, axis=1).astype(np.float32)
        times = to_order(_column(batch, order), f"{where}, column {order!r}") if order else None
        block = Block(episode=prefix, values=values, order=times, where=where, row=before)
        labels = _column(batch, episode).cast(pa.string()).to_pylist() if episode else [""] * len(values)
        changes = [row for row in range(1, len(labels)) if labels[row] != labels[row - 1]]
        for part in block.cut(changes):
            label = labels[part.row - before]
            if label != last:
                _check_label(label, ended, f"{where}, column {episode!r}, row {part.row + 1}")
                ended.add(label)
                last = label
            yield replace(part, episode="/".join(filter(None, (prefix, label))))
        before += len(values)
    if not before:
        raise InputError(where, expected="at least one row of values", received="none")


def _column(batch: pa.RecordBatch, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([batch.column(name)])


def _check_names(
    where: str, names: Sequence[str], columns: Sequence[str], settings: dict[str, str | None]
) -> None:
    for name in columns:
        if name not in names:
            expected, remedy = f"a column {name!r}, which the model reads", suggest(name, names)
            raise InputError(where, expected=expected, received="no such column", remedy=remedy)
    for setting, wanted in settings.items():
        if wanted is not None and wanted not in names:
            expected, remedy = f"a column {wanted!r} ({setting})", suggest(wanted, names)
            raise InputError(where, expected=expected, received="no such column", remedy=remedy)


def _check_label(label: str | None, ended: set[str], where: str) -> None:
    if label is None:
        raise InputError(where, expected="an episode", received="no value")
    if label in ended:
        remedy = "Sort the file by episode."
        raise InputError(where, expected="the rows of an episode together", received=label, remedy=remedy)


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


def _is_text(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string))


def _is_numeric(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, or nothing at all: then each of them is missing."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(kind) for is_kind in tests)
