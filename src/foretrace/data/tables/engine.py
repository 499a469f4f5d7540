"""The table engine (DuckDB): files of text, Parquet files and arrays as relations that SQL can ask.

It reads within a memory limit, sorts on disk, loads no extensions, and answers broken bytes with an exception.
"""

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import ABSENT, NUMBER, SIGNS, UNSET, Dialect, find_dialect, plain_copy
from foretrace.data.tables.files import ARRAYS, check_width, file_format, open_arrays, partitions, stems
from foretrace.errors import UserError, is_plain

# That the engine may hold, and more for each column; what needs more goes to disk.
MEMORY_MB, COLUMN_MB = 128, 1
BROKEN = (duckdb.Error, pa.ArrowException, OSError, UnicodeDecodeError, RuntimeError, MemoryError)
ERROR_KIND = re.compile(r"^(Invalid Input|IO|Invalid|Binder|Conversion) Error: (CSV Error on Line: )?")
WRONG_WIDTH = re.compile(r"(\d+) Original Line: (.*?) Expected Number of Columns: (\d+) Found: (\d+)")
LONGEST_NAME = 1000  # characters
ROWS, MOST_CELLS, COLUMNS = 2**15, 2**19, 100  # at once

DAY = 86_400 * 10**9
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1, "min": 60 * 10**9, "h": 3_600 * 10**9, "d": DAY}
# Dates as one number: nanoseconds of one, the number of 1970-01-01, and between which numbers a date is one.
DATE_NUMBERS = {
    "excel": (DAY, 25_569, (20_000, 80_000)),
    "matlab": (DAY, 719_529, (690_000, 780_000)),
    "julian": (DAY, 2_440_587.5, (2_400_000, 2_500_000)),
    "decimal_year": (31_556_952 * 10**9, 1970, (1_000, 2_300)),
}
END_OF_DAY = r"\b24([:.]?(00[:.]?)*)$"  # 24:00 is 00:00 of the next day


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file, or an array in a file, and how its columns are written in SQL."""

    where: str  # the file, and the array if it has several, as errors name it
    name: str  # what its episodes' names begin with
    relation: str  # what follows FROM in a query
    columns: dict[str, tuple[str, str]]  # each one's expression in the relation, and its type
    size: int  # bytes on disk
    array: str = ""  # its name in the file, if that has several
    folders: dict[str, str] = field(default_factory=dict)  # columns that folders named ``key=value`` give
    dialect: Dialect | None = None  # of a file of text
    repeats: str = "false"  # the condition that a row has the header again

    def text(self, name: str, reading: Reading = UNSET) -> str:
        """Return SQL of a column as a text without spaces around it, NULL where it stands for no value."""
        expression, kind = self.columns[name]
        text = f"trim({expression}, ' \t')" if kind == "VARCHAR" else f"CAST({expression} AS VARCHAR)"
        if kind in ("FLOAT", "DOUBLE"):  # 2024.0 is the year 2024
            text = f"regexp_replace({text}, '\\.0$', '')"
        # A pattern, for each text of a list would take memory of its own in each of a thousand columns.
        absent = "|".join(map(re.escape, sorted({*ABSENT, *map(str, reading.missing_values or ())})))
        return f"CASE WHEN regexp_full_match({text}, {literal(absent)}) THEN NULL ELSE {text} END"

    def number(self, name: str, reading: Reading) -> str:
        """Return SQL of a column as a DOUBLE: NULL or NaN where missing, infinite where a text is no number."""
        expression, kind = self.columns[name]
        number = f"CAST({expression} AS DOUBLE)"
        if kind == "VARCHAR":
            bare = f"trim({expression}, {literal(SIGNS)})"
            for mark, instead in ((reading.thousands, ""), ("_", "?"), (reading.decimal, ".")):
                bare = f"replace({bare}, {literal(mark)}, '{instead}')" if mark and mark != instead else bare
            unfit = f"if({self.text(name, reading)} IS NULL, NULL, 'inf'::DOUBLE)"
            number = f"coalesce(TRY_CAST({bare} AS DOUBLE), {unfit})"
            if not reading.thousands:  # most cells are plain numbers: three times as fast
                plain = f"if(contains({expression}, '_'), NULL, TRY_CAST({expression} AS DOUBLE))"
                number = f"coalesce({plain}, {number})"
        return number

    def absent(self, name: str, reading: Reading) -> str:
        """Return SQL of the list of a column's numbers that stand for no value."""
        numbers = [float(value) for value in reading.missing_values or () if NUMBER.fullmatch(str(value))]
        if self.columns[name][1] == "FLOAT":
            numbers = [float(np.float32(number)) for number in numbers]
        return "(" + ", ".join(f"'{number}'::DOUBLE" for number in (np.nan, *numbers)) + ")"

    def time(self, columns: Sequence[str], time_format: str | None, decimal: str | None) -> str:
        """Return SQL of the time in nanoseconds that columns give together; NULL where it cannot be read."""
        expression, kind = self.columns[columns[0]]
        if len(columns) == 1 and kind.startswith(("TIMESTAMP", "DATE")):
            return f"epoch_ns({expression})"
        if len(columns) > 1 and time_format in UNITS:  # seconds and nanoseconds, as ROS writes them
            parts = zip(columns, ("s", "ns"), strict=True)
            return " + ".join(self.time([name], each, decimal) for name, each in parts)
        if decimal and kind == "VARCHAR":
            expression = f"replace({expression}, {literal(decimal)}, '.')"
        number = f"TRY_CAST({expression} AS DECIMAL(28, 9))"  # which keeps all of 19 digits
        if time_format in UNITS:
            return f"TRY_CAST({number} * {UNITS[time_format]} AS BIGINT)"
        if time_format in DATE_NUMBERS:
            scale, zero, _ = DATE_NUMBERS[time_format]
            return f"TRY_CAST(round(({number} - {zero}) * {scale // 10**6}) * 1000000 AS BIGINT)"
        text = " || ' ' || ".join(f"({self.text(name)})" for name in columns)
        if time_format == "iso":
            time = f"replace(replace({text}, ' +', '+'), ' -', '-')"
        else:
            shape, next_day = literal(str(time_format)), f"regexp_replace({text}, '{END_OF_DAY}', '00\\1')"
            times = f"try_strptime({text}, {shape})", f"try_strptime({next_day}, {shape}) + INTERVAL 1 DAY"
            time = f"coalesce({', '.join(times)})"
        return f"epoch_ns(TRY_CAST({time} AS TIMESTAMPTZ))"


class Engine:
    """A connection that lives as long as the reading does.

    Args:
        scratch: Folder for what is sorted on disk.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        settings: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "disabled_optimizers": "common_subexpressions",  # takes time by the square of the columns
            "memory_limit": "400MB",  # until it is known how wide the tables are
            "temp_directory": str(scratch),
        }
        self._connection = duckdb.connect(scratch / "tables.duckdb", config=settings)
        self._connection.execute("SET TimeZone = 'UTC'")
        # In a notebook without ipywidgets, which has no bar anyway, this is refused.
        with suppress(duckdb.InvalidInputException):
            self._connection.execute("SET enable_progress_bar = false")

    def close(self) -> None:
        """Close the connection; what it holds lies in its scratch folder."""
        self._connection.close()

    def rows(self, sql: str, where: str = "") -> list[tuple[Any, ...]]:
        """Run a statement, and give all rows of its answer.

        Raises:
            UserError: If the file ``where`` cannot be read.
        """
        try:
            return self._connection.execute(sql).fetchall()
        except BROKEN as error:
            text = " ".join(re.split("Possible |\n  file = ", str(error))[0].split())
            text = ERROR_KIND.sub("", text)
            hint = "Is it whole? Else set data.separator, data.encoding or data.comment" * (
                "CSV" in str(error)
            )
            if "not utf-8" in text:
                hint = "Set data.encoding, e.g. data.encoding=latin-1"
            if found := WRONG_WIDTH.match(text):
                line, row, expected, values = found.groups()
                text = f"line {line} has {values} values where {expected} are expected: {row[:100]!r}"
            raise UserError(f"{where}: cannot be read: {text}" if where else text, hint=hint) from error

    def measure(self, aggregates: Sequence[Sequence[str]]) -> list[tuple[Any, ...]]:
        """Compute aggregates of columns of the table ``raw``; some columns at a time, to be planned fast."""
        found: list[tuple[Any, ...]] = []
        for first in range(0, len(aggregates), COLUMNS):
            some = aggregates[first : first + COLUMNS]
            [row] = self.rows(f"SELECT {', '.join(chain.from_iterable(some))} FROM raw")
            found += zip(*[iter(row)] * len(some[0]), strict=True)
        return found

    def stream(self, sql: str, *, width: int) -> Iterator[pa.RecordBatch]:
        """Yield an answer of any length in pieces, of fewer rows where they are wide."""
        yield from self._connection.sql(sql).to_arrow_reader(max(1, min(ROWS, MOST_CELLS // width)))

    def open(self, files: Sequence[Path], reading: Reading) -> list[Table]:
        """Open the tables that files hold, in the order of the files.

        Raises:
            UserError: If one cannot be read, or differs from the first in its columns.
        """
        tables: list[Table] = []
        for file, stem in zip(files, stems(files), strict=True):
            kind = file_format(file)
            found = self._arrays(file, stem) if kind in ARRAYS else [self._table(file, stem, kind, reading)]
            for table in found:
                _check_columns(table, tables[0] if tables and reading.features is None else table)
                tables.append(table)
        widest = min(max(len(table.columns) for table in tables), 4000)
        self.rows(f"SET memory_limit = '{MEMORY_MB + COLUMN_MB * widest}MB'")
        return tables

    def _arrays(self, file: Path, stem: str) -> Iterator[Table]:
        for number, (name, array) in enumerate(open_arrays(file, self._scratch).items()):
            names, relation = [f"feature_{f}" for f in range(array.shape[1])], f"{file} {number}"
            self._connection.register(relation, pd.DataFrame(array, columns=names, copy=False))
            kind = "FLOAT" if array.dtype == np.float32 else "DOUBLE"
            yield Table(
                where=f"{file}, {name!r}" if name else str(file),
                name="/".join(part for part in (stem, name) if part),
                relation=quoted(relation),
                columns={each: (quoted(each), kind) for each in names},
                size=file.stat().st_size,
                array=name,
            )

    def _table(self, file: Path, stem: str, kind: str, reading: Reading) -> Table:
        where, dialect, repeats = str(file), None, "false"
        if kind == ".parquet":
            path = literal(glob.escape(str(file)))
            relation = f"read_parquet({path}, hive_partitioning = false)"
            leaves = f"SELECT count(*) FROM parquet_schema({path}) WHERE num_children IS NULL"
            check_width(where, self.rows(leaves, where)[0][0])  # to describe so many takes seconds
            described = self.rows(f"DESCRIBE SELECT * FROM {relation}", where)
            columns = {row[0]: (quoted(row[0]), str(row[1])) for row in described}
            columns = self._expand_lists(columns, relation, where)
        else:
            dialect = find_dialect(file, reading)
            comment = f", comment = {literal(reading.comment)}" if reading.comment else ""
            path = literal(glob.escape(str(plain_copy(file, dialect, reading, self._scratch))))
            types = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(dialect.width))
            relation = (
                f"read_csv({path}, auto_detect = false, header = false, skip = {dialect.skip}, quote = '\"', "
                f"escape = '\"', delim = {literal(dialect.separator)}, columns = {{{types}}}, "
                f"null_padding = {dialect.is_ragged}{comment})"
            )
            columns = {name: (f"c{n}", "VARCHAR") for name, n in dialect.columns.items()}
            same = [f"trim(c{n}) = {literal(name)}" for name, n in list(dialect.columns.items())[:3]]
            repeats = f"coalesce({' AND '.join(same)}, false)"
        folders = partitions(file)
        columns |= {key: (literal(value), "VARCHAR") for key, value in folders.items()}
        return Table(where=where, name=stem, relation=relation, columns=columns, size=file.stat().st_size,
                     folders=folders, dialect=dialect, repeats=repeats)  # fmt: skip

    def _expand_lists(
        self, columns: dict[str, tuple[str, str]], relation: str, where: str
    ) -> dict[str, tuple[str, str]]:
        """Split lists of numbers of one length, as robots' states are stored, into a column for each place."""
        expanded: dict[str, tuple[str, str]] = {}
        for name, (expression, kind) in columns.items():
            element, is_list, _ = kind.rpartition("[")
            if not is_list:
                expanded[name] = expression, kind
                continue
            lengths = f"SELECT min(len({expression})), max(len({expression})) FROM {relation}"
            low, high = self.rows(lengths, where)[0]
            if low != high or not low:
                hint = "Name the columns to read in data.features and data.covariates, without this one"
                told = f"{where}, column {name!r}: lists of {low} to {high} values are no columns"
                raise UserError(told, hint=hint)
            check_width(where, low)
            expanded |= {f"{name}_{k}": (f"{expression}[{k + 1}]", element) for k in range(low)}
        return expanded


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def listed(names: Sequence[str]) -> str:
    """List a few names."""
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")


def _check_columns(table: Table, like: Table) -> None:
    """Refuse names that cannot be shown, and other columns than another table has."""
    check_width(table.where, len(table.columns))
    for name in table.columns:
        if not all(map(is_plain, name)):
            raise UserError(f"{table.where}: column {name!r} has control characters in its name")
        if len(name) > LONGEST_NAME:
            raise UserError(f"{table.where}: column {name!r} has a name of over {LONGEST_NAME} characters")
    further = [name for name in table.columns if name not in like.columns]
    absent = [name for name in like.columns if name not in table.columns]
    if further or absent:
        what = f"also has {listed(further)}" if further else f"lacks {listed(absent)}"
        hint = "Name the columns to predict in data.features"
        raise UserError(f"{table.where}: {what}, unlike {like.where}", hint=hint)
