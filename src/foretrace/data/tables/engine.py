"""The table engine (DuckDB): files of text, Parquet files and arrays as relations that SQL can ask.

It reads within a memory limit, sorts on disk, loads no extensions, and answers broken bytes with an exception.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from foretrace.config.data import Reading
from foretrace.data.tables.arrays import MOST_COLUMNS, check_width, open_arrays
from foretrace.data.tables.dialect import Dialect, find_dialect, plain_copy
from foretrace.data.tables.files import ARRAYS, file_format, partitions, stems
from foretrace.errors import UserError, is_plain

MEMORY = "400MB"  # that the engine may hold; what needs more goes to disk
LONGEST_NAME = 1000  # characters
ROWS = 2**15  # at once
MOST_CELLS = 2**19  # at once


@dataclass(frozen=True, kw_only=True)
class Source:
    """One table: a file, or an array in a file.

    Args:
        where: The file, and the array if it has several, as errors name it.
        name: What its episodes' names begin with.
        relation: What follows FROM in a query.
        columns: For each column its name, its expression in the relation, and its type.
        array: Name of the array in the file, if it has several.
        units: Unit of a column, where the file says it.
        dialect: How a file of text is written.
        size: Bytes on disk.
    """

    where: str
    name: str
    relation: str
    columns: dict[str, tuple[str, str]]
    array: str = ""
    units: dict[str, str] = field(default_factory=dict)
    dialect: Dialect | None = None
    size: int = 0


class Engine:
    """A connection that lives as long as the reading does.

    Args:
        scratch: Folder for what is sorted on disk.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._connection = duckdb.connect(
            scratch / "tables.duckdb",
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "memory_limit": MEMORY,
                "temp_directory": str(scratch),
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, sql: str, where: str = "") -> None:
        """Runs statements whose answer does not matter; errors name the file ``where``."""
        with _told(where):
            self._connection.execute(sql)

    def rows(self, sql: str, where: str = "") -> list[tuple[Any, ...]]:
        """All rows of an answer.

        Raises:
            UserError: If the file ``where`` cannot be read.
        """
        with _told(where):
            return self._connection.execute(sql).fetchall()

    def stream(self, sql: str, *, width: int) -> Iterator[pa.RecordBatch]:
        """An answer of any length in pieces, of fewer rows where they are wide."""
        yield from self._connection.sql(sql).to_arrow_reader(max(1, min(ROWS, MOST_CELLS // width)))

    def register(self, name: str, table: Any) -> None:
        """Lets a query name a table that is in memory, or mapped."""
        self._connection.register(name, table)

    def sources(self, files: Sequence[Path], reading: Reading) -> list[Source]:
        """What each file holds, in the order of the files.

        Raises:
            UserError: If one cannot be read, or differs from the first in its columns.
        """
        found: list[Source] = []
        for file, stem in zip(files, stems(files), strict=True):
            kind = file_format(file)
            sources = self._arrays(file, stem) if kind in ARRAYS else [self._table(file, stem, kind, reading)]
            for source in sources:
                _check_names(source)
                if found and reading.features is None:
                    _check_same_columns(source, found[0])
                found.append(source)
        return found

    def _arrays(self, file: Path, stem: str) -> list[Source]:
        sources = []
        for number, (name, table) in enumerate(open_arrays(file).items()):
            relation = quoted(f"{file} {number}")
            self.register(f"{file} {number}", table)
            columns = {
                str(c): (quoted(str(c)), "FLOAT" if table[c].dtype == "f4" else "DOUBLE") for c in table
            }
            where = f"{file}, {name!r}" if name else str(file)
            named = "/".join(part for part in (stem, name) if part)
            sources.append(
                Source(
                    where=where,
                    name=named,
                    relation=relation,
                    columns=columns,
                    array=name,
                    size=file.stat().st_size,
                )
            )
        return sources

    def _table(self, file: Path, stem: str, kind: str, reading: Reading) -> Source:
        where, dialect, units = str(file), None, {}
        if kind == ".parquet":
            relation = f"read_parquet({literal(_plain(file))}, hive_partitioning = false)"
            leaves = (
                f"SELECT count(*) FROM parquet_schema({literal(_plain(file))}) WHERE num_children IS NULL"
            )
            check_width(where, self.rows(leaves, where)[0][0])  # to describe so many takes seconds
            described = self.rows(f"DESCRIBE SELECT * FROM {relation}", where)
            columns = {row[0]: (quoted(row[0]), str(row[1])) for row in described}
            columns = self._expand_lists(columns, relation, where)
        else:
            dialect = find_dialect(file, reading)
            copy = plain_copy(file, dialect, reading, self.scratch)
            relation = dialect.relation(literal(_plain(copy)))
            columns = {name: (f"c{n}", "VARCHAR") for n, name in dialect.columns}
            units = dialect.units
        columns |= {key: (literal(value), "VARCHAR") for key, value in partitions(file).items()}
        return Source(where=where, name=stem, relation=relation, columns=columns, units=units, dialect=dialect,
                      size=file.stat().st_size)  # fmt: skip

    def _expand_lists(
        self, columns: dict[str, tuple[str, str]], relation: str, where: str
    ) -> dict[str, tuple[str, str]]:
        """Lists of numbers of one length, as robots' states are stored: one column for each place."""
        lists = [name for name, (_, kind) in columns.items() if kind.endswith("]")]
        if not lists:
            return columns
        lengths = ", ".join(f"min(len({columns[n][0]})), max(len({columns[n][0]}))" for n in lists)
        found = self.rows(f"SELECT {lengths} FROM {relation}", where)[0]
        expanded: dict[str, tuple[str, str]] = {}
        for name, (expression, kind) in columns.items():
            if name not in lists:
                expanded[name] = expression, kind
                continue
            low, high = found[2 * lists.index(name) : 2 * lists.index(name) + 2]
            if low != high or not low or low > MOST_COLUMNS:
                raise UserError(
                    f"{where}, column {name!r}: lists of {low} to {high} values are no columns",
                    hint="Name the columns to read in data.features and data.covariates, without this one",
                )
            element = kind[: kind.rindex("[")]
            expanded |= {f"{name}_{k}": (f"{expression}[{k + 1}]", element) for k in range(low)}
        return expanded


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _plain(file: Path) -> str:
    """A path in which nothing is a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(file))


def _check_names(source: Source) -> None:
    check_width(source.where, len(source.columns))
    for name in source.columns:
        if not all(map(is_plain, name)):
            raise UserError(f"{source.where}: column {name!r} has control characters in its name")
        if len(name) > LONGEST_NAME:
            raise UserError(f"{source.where}: column {name!r} has a name of over {LONGEST_NAME} characters")


def _check_same_columns(source: Source, first: Source) -> None:
    further = [name for name in source.columns if name not in first.columns]
    absent = [name for name in first.columns if name not in source.columns]
    if further or absent:
        what = f"also has {listed(further)}" if further else f"lacks {listed(absent)}"
        raise UserError(
            f"{source.where}: {what}, unlike {first.where}",
            hint="Name the columns to predict in data.features",
        )


def listed(names: Sequence[str]) -> str:
    """A few names."""
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Says what is wrong with a file in one line."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError, UnicodeDecodeError, RuntimeError, MemoryError) as error:
        text = " ".join(str(error).split("Possible ")[0].split("\n  file = ")[0].split())
        text = re.sub(
            r"^(Invalid Input|IO|Invalid|Binder|Conversion) Error: (CSV Error on Line: )?", "", text
        )
        hint = (
            "Is it whole? Else set data.separator, data.encoding or data.comment"
            if "CSV" in str(error)
            else ""
        )
        if width := re.match(
            r"(\d+) Original Line: (.*?) Expected Number of Columns: (\d+) Found: (\d+)", text
        ):
            text = f"line {width[1]} has {width[4]} values where {width[3]} are expected: {width[2][:100]!r}"
        if "not utf-8" in text:
            hint = "Set data.encoding, e.g. data.encoding=latin-1"
        raise UserError(f"{where}: cannot be read: {text}" if where else text, hint=hint) from error
