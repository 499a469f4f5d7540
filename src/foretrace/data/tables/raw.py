"""All rows of the files in one table of the engine: gathered, checked, profiled, and sorted by episode and time.

Shapes: T rows that follow each other, F features, K covariates that files hold, C = F + K columns.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from foretrace.config.data import Reading
from foretrace.data.tables.columns import Uses, not_a_number, sample
from foretrace.data.tables.dialect import BOMB, NUMBER, as_number
from foretrace.data.tables.engine import Engine, Table, literal
from foretrace.data.tables.steps import Rows, Times
from foretrace.data.tables.times import FIRST_DATE_NS, episode_hint
from foretrace.errors import UserError

LARGEST = 1e36  # float32 ends at 3.4e38: differences and forecasts need room above what was recorded
FEWEST_STEPS = 30  # of single precision in a standard deviation: rounding is then a hundredth of it
# Values that stand for none, by custom; doubtful only where one lies outside of all others by more than they span.
SENTINELS = frozenset(
    (99.0, 99.9, 99.99, 100.0, 200.0, 777.0, 888.0, 900.0, 999.0, 999.9, 999.99, 7777.0, 8888.0, 9999.0, 9999.9,
     9999.99, 32767.0, 32768.0, 99999.0, 999999.0, 9999999.0, 1e20, 1e30)
)  # fmt: skip
FAR = 20  # spans of all other values: farther outside lies an outlier
MOST_SHOWN = 12  # constant columns in a warning
SPREAD = ("count(*) - count({x})", "min({x})", "max({x})", "avg({x})", "stddev_pop({x})")
INSIDE = ("min(if({x} > {low}, {x}, NULL))", "max(if({x} < {high}, {x}, NULL))",
          "count(if({x} = {low}, 1, NULL))", "count(if({x} = {high}, 1, NULL))")  # fmt: skip
# How often the episode changes from row to row, and within one the time goes back, or stays.
CHANGES = (
    "count(*) FILTER (k != k0), count(*) FILTER (k = k0 AND t < t0), count(*) FILTER (k = k0 AND t = t0)"
)


class RawRows:
    """The table ``raw`` of part, row, group, episode, time and numbers x0, x1, … of all files, in their order.

    Args:
        engine: Has the tables open.
        tables: One for each file, or array in a file.
        uses: What is done with their columns; what is doubtful is added to its warnings.
        notes: What is counted on the way.
    """

    def __init__(self, engine: Engine, tables: Sequence[Table], uses: Uses, notes: Counter[str]) -> None:
        self._engine, self._tables, self._uses, self._notes = engine, tables, uses, notes
        self._reading, self._warnings, self._order = uses.reading, uses.warnings, uses.reading.order
        features, categories = self._reading.features or (), self._reading.categories or {}
        covariates = [
            (name, each) for name in self._reading.covariates for each in categories.get(name, [None])
        ]
        # Each column, and the category that it tells apart, if it is one of texts.
        self._columns: list[tuple[str, str | None]] = [*((name, None) for name in features), *covariates]
        self.names = [name if each is None else f"{name}={each}" for name, each in self._columns]
        self._x = [f"x{c}" for c in range(len(self._columns))]

    def gather(self, *, is_one_file: bool) -> None:
        """Put all rows into the table.

        Raises:
            UserError: If a table has none, or more than its bytes on disk can hold.
        """
        run, fields = self._engine.rows, ", ".join(f"{x} DOUBLE" for x in self._x)
        run(f"CREATE TABLE raw (part INTEGER, r BIGINT, g VARCHAR, e VARCHAR, t BIGINT, {fields})")
        episode, reading = self._reading.episode_column, self._reading
        for part, table in enumerate(self._tables):
            label = table.text(episode) if episode else "''"
            alone = is_one_file and (episode is not None or table.array)
            group = "" if episode in table.folders else table.array if alone else table.name
            time = table.time(self._order, reading.time_format, reading.decimal) if self._order else "NULL"
            written, numbers = list[str](), list[str]()
            for x, (name, category) in zip(self._x, self._columns, strict=True):
                number = table.number(name, reading)
                if category is not None:
                    is_it = f"{table.text(name, reading)} IS NOT DISTINCT FROM {literal(category)}"
                    number = f"CAST({is_it} AS DOUBLE)"
                absent = table.absent(name, reading)
                written.append(f"{number} AS {x}")
                numbers.append(
                    x if category is not None else f"CASE WHEN {x} IN {absent} THEN NULL ELSE {x} END"
                )
            most = BOMB * table.size // (8 * len(self._columns)) + 2**24
            numbered = f'(SELECT *, row_number() OVER () AS "row of the file" FROM {table.relation})'
            chosen = f'SELECT "row of the file" AS r, {label} AS e, {time} AS t, {", ".join(written)} FROM {numbered}'
            limited = f"({chosen} WHERE NOT {table.repeats} LIMIT {most})"
            values = f"SELECT {part}, r, {literal(group)}, e, t, {', '.join(numbers)} FROM {limited}"
            run(f"INSERT INTO raw {values}", table.where)
            [(rows, last)] = run(f"SELECT count(*), max(r) FROM raw WHERE part = {part}")
            if not rows:
                raise UserError(f"{table.where}: not one row of values")
            if rows == most:
                told = f"{table.where}: its numbers take over {BOMB} times its bytes on disk"
                raise UserError(told, hint="If these are recordings, save them as NPY files")
            if last > rows:
                self._warnings.append(
                    f"{table.where}: {last - rows} line(s) with the header again passed over"
                )
            self._notes["rows"] += rows
        if self._order:
            blank = " AND ".join(f"{x} IS NULL" for x in self._x)
            [(gone,)] = run(f"DELETE FROM raw WHERE t IS NULL AND {blank}")
            self._notes["rows"] -= gone
            self._notes["rows without anything"] = gone

    def check(self) -> None:
        """Refuse texts among numbers, numbers that are too large, rows without a time or an episode.

        Raises:
            UserError: With the first such row.
        """
        found = self._engine.measure([[f"max(abs({x}))"] for x in self._x])
        for x, (name, _), (largest,) in zip(self._x, self._columns, found, strict=True):
            if (largest or 0) > LARGEST and (bad := self._first(f"abs({x}) > {LARGEST}", [name])):
                where, text = bad
                if not NUMBER.fullmatch(as_number(text, self._reading)):
                    raise not_a_number(where, [text], self._uses.found)
                hint = "Correct the value, or set data.missing_values and data.missing"
                raise UserError(f"{where}: {text[:30]} is not finite, or over {LARGEST:.0e}", hint=hint)
        if self._order and (bad := self._first("t IS NULL", self._order)):
            what = f"{bad[1][:100]!r} is not a time" if bad[1] else "no time"
            raise UserError(f"{bad[0]}: {what}", hint="Set data.time_format, or correct the row")
        if bad := self._first("e IS NULL", [str(self._reading.episode_column)]):
            hint = "Name the row's episode, or set data.episode_column=null"
            raise UserError(f"{bad[0]}: no value, so no episode", hint=hint)

    def profile(self, given: Reading) -> list[dict[str, Any]]:
        """Return size, spread and missing values of each column; add to the warnings what is doubtful.

        Raises:
            UserError: If values probably stand for none, or single precision would lose what varies.
        """
        profile, doubtful, constant = [], dict[str, tuple[float, int]](), list[str]()
        spreads = self._engine.measure([[each.format(x=x) for each in SPREAD] for x in self._x])
        ends = [
            [f"'{value}'::DOUBLE" if value is not None else "NULL" for value in row[1:3]] for row in spreads
        ]
        insides = self._engine.measure([[each.format(x=x, low=low, high=high) for each in INSIDE]
                                        for x, (low, high) in zip(self._x, ends, strict=True)])  # fmt: skip
        for name, spread, inside in zip(self.names, spreads, insides, strict=True):
            (missing, low, high, mean, std), (second, before, lows, highs) = spread, inside
            profile.append(
                {"name": name, "missing": missing, "min": low, "max": high, "mean": mean, "std": std}
            )
            if low is None or name not in (self._reading.features or ()):
                continue
            if low == high:
                constant.append(f"{name!r} ({low:g})")
                continue
            _check_digits(name, profile[-1], self._tables[0])
            sides = (low, second - low, high - second, lows), (high, high - before, before - low, highs)
            for value, gap, span, times in sides:
                what = "looks like a missing value" if abs(value) in SENTINELS and gap > span else ""
                if what:
                    doubtful[name] = value, times
                elif gap > FAR * span > 0:
                    what = "lies far outside of all others"
                if what and (name not in doubtful or given.missing_values is not None):
                    self._warnings.append(f"column {name!r}: {value:g} ({times:,} times) {what}")
        if constant:
            shown = ", ".join(constant[:MOST_SHOWN]) + ", …" * (len(constant) > MOST_SHOWN)
            self._warnings.append(f"{len(constant):,} constant column(s): {shown}")
        if doubtful and given.missing_values is None:
            values = ",".join(dict.fromkeys(f"{value:g}" for value, _ in doubtful.values()))
            name, (value, times) = next(iter(doubtful.items()))
            where, _ = self._first(f"x{self.names.index(name)} = {value}::DOUBLE", [name]) or (
                f"column {name!r}",
                "",
            )
            missing = " data.missing=interpolate" if given.missing == "error" else ""
            settings = f"data.missing_values=[{values}]{missing}{self._uses.found and f' {self._uses.found}'}"
            raise UserError(
                f"{where}: {value:g} ({times:,} times) looks like a missing value",
                hint=f"Set {settings}, or data.missing_values=[] to keep it",
            )
        return profile

    def refuse_missing(self, counts: Mapping[str, int]) -> None:
        """Say which values are missing, if there are any."""
        if missing := {name: count for name, count in counts.items() if count}:
            c = self.names.index(next(iter(missing)))
            where, _ = self._first(f"x{c} IS NULL", [self._columns[c][0]]) or (self.names[c], "")
            total = ", ".join(f"{name}: {count:,}" for name, count in list(missing.items())[:8])
            found = self._uses.found and f" {self._uses.found}"
            hint = f"Set data.missing=interpolate or drop{found}, or choose other columns by data.features"
            raise UserError(f"{where}: a value is missing ({total} in all)", hint=hint)

    def sort(self) -> list[str]:
        """Make the relation ``sorted`` of rows by episode, in order of appearance, and by time; name the episodes.

        Raises:
            UserError: If rows of one episode have the same time, with other values.
        """
        run, warnings = self._engine.rows, self._warnings
        run("CREATE TABLE episodes AS SELECT g, e, row_number() OVER (ORDER BY min((part, r))) - 1 AS k "
            "FROM raw GROUP BY g, e")  # fmt: skip
        names = ["/".join(filter(None, labels)) for labels in run("SELECT g, e FROM episodes ORDER BY k")]
        changes, back, same = self._changes("SELECT g || '/' || e AS k, t FROM raw")
        columns = f"k, t, {', '.join(self._x)}"
        if changes + 1 == len(names) and not back and not same:
            # Counted along the rows: what is joined comes in any order, from the second row group of a table on.
            number = "count(*) FILTER (label != label0) OVER (ROWS UNBOUNDED PRECEDING) AS k"
            labels = (
                "(SELECT *, lag(label) OVER () AS label0 FROM (SELECT *, g || '/' || e AS label FROM raw))"
            )
            run(f"CREATE VIEW sorted AS SELECT {columns} FROM (SELECT *, {number} FROM {labels})")
            return names
        rows = f"SELECT {columns} FROM raw JOIN episodes USING (g, e)"
        if back:
            by = " and ".join(self._order)
            warnings.append(
                f"rows do not run forward in time ({back:,} times one is earlier): sorted by {by}"
            )
        run(f"CREATE TABLE sorted AS {rows} ORDER BY {'k, t' if self._order else 'k, part, r'}")
        if self._order and self._changes("SELECT k, t FROM sorted")[2]:
            run("CREATE TABLE once AS SELECT DISTINCT * FROM sorted ORDER BY k, t")
            twice = self._notes["rows repeated"] = (
                self._notes["rows"] - run("SELECT count(*) FROM once")[0][0]
            )
            if self._changes("SELECT k, t FROM once")[2]:
                [(k, t)] = run(
                    "SELECT k, t FROM once GROUP BY k, t HAVING count(*) > 1 ORDER BY k, t LIMIT 1"
                )
                shown = np.datetime64(t, "ns").astype("M8[s]") if t > FIRST_DATE_NS else f"{t / 1e9:g}"
                where = names[k] or self._tables[0].where
                settings = episode_hint(self._order, sample(self._engine, self._tables[0], self._reading))
                clocks = "write local times over a change of the clocks in UTC, or correct the rows"
                told = f"{where}: several rows have the time {shown}, with other values"
                raise UserError(told, hint=f"Set {settings}, {clocks}")
            run("DROP TABLE sorted; ALTER TABLE once RENAME TO sorted")
            warnings.append(f"{twice:,} rows came twice: one of each is kept")
        return names

    def pieces(self) -> Iterator[tuple[int, Times, Rows]]:
        """Yield the number of an episode, times (T,) and values (T, C) of what is sorted, some rows at a time."""
        floats = ", ".join(f"CAST({x} AS FLOAT) AS {x}" for x in self._x)
        for batch in self._engine.stream(
            f"SELECT k, coalesce(t, 0), {floats} FROM sorted", width=len(self._x)
        ):
            k, times, *numbers = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            values = np.stack(numbers, axis=1)
            for first, end in pairwise([0, *(np.flatnonzero(np.diff(k)) + 1).tolist(), len(k)]):
                yield int(k[first]), times[first:end], values[first:end]

    def _first(self, condition: str, names: Sequence[str]) -> tuple[str, str] | None:
        """File, column and number of the first row that fulfills a condition, and the text of columns in it."""
        found = self._engine.rows(f"SELECT part, r FROM raw WHERE {condition} ORDER BY part, r LIMIT 1")
        if not found:
            return None
        table, row = self._tables[found[0][0]], found[0][1]
        text = ", ' ', ".join(f"CAST({table.columns[name][0]} AS VARCHAR)" for name in names)
        [(text,)] = self._engine.rows(f"SELECT concat({text}) FROM {table.relation} LIMIT 1 OFFSET {row - 1}")
        return f"{table.where}, column {names[0]!r}, row {row}", text.strip()

    def _changes(self, rows: str) -> tuple[int, int, int]:
        before = "lag(k) OVER () AS k0, lag(t) OVER () AS t0"
        return self._engine.rows(f"SELECT {CHANGES} FROM (SELECT *, {before} FROM ({rows}))")[0]


def _check_digits(name: str, column: Mapping[str, Any], table: Table) -> None:
    """Refuse a column that varies by less than single precision can tell, unless it was recorded in that."""
    largest, std = max(abs(column["min"]), abs(column["max"])), column["std"]
    digits = FEWEST_STEPS * float(np.spacing(np.float32(largest)))
    if (largest < np.finfo(np.float32).tiny or std < digits) and table.columns[name][1] != "FLOAT":
        varies = f"values up to {largest:.9g} that vary by {std:.2g} lose their variation"
        raise UserError(
            f"{table.where}, column {name!r}: {varies} in the 7 digits of single precision",
            hint="Subtract an offset, change the unit, or choose other columns by data.features",
        )
