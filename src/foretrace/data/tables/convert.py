"""From tables to the canonical form: one pass into the engine, checks, order, and out in single precision.

Shapes: N rows of all episodes, T rows of one, F features, K covariates, C = F and the covariates that files hold.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from foretrace.config.data import Reading
from foretrace.data.tables.columns import choose_uses, not_a_number, sample
from foretrace.data.tables.dialect import BOMB, NUMBER, as_number
from foretrace.data.tables.engine import Engine, Table, literal
from foretrace.data.tables.episodes import (
    BLOCK,
    Rows,
    Stretch,
    blocks,
    cut,
    map_files,
    map_times,
    split_future,
)
from foretrace.data.tables.quality import profile_columns, time_facts
from foretrace.data.tables.steps import (
    Times,
    derive,
    derived_names,
    resample,
    usual_step,
)
from foretrace.data.tables.time_formats import FIRST_DATE_NS, time_sql
from foretrace.data.tables.times import episode_hint, find_label, order_columns
from foretrace.errors import UserError

LARGEST = 1e36  # float32 ends at 3.4e38: differences and forecasts need room above what was recorded
FILES = ("values", "covariates", "times")
NOTES = ("rows", "missing values", "values interpolated", "gaps in time", "rows left out", "rows repeated",
         "rows without anything", "episodes dropped", "episodes too short")  # fmt: skip


class Conversion:
    """Files on their way to the canonical form in an empty folder: values, covariates, times, what is known of them."""

    def __init__(self, engine: Engine, files: Sequence[Path], reading: Reading, folder: Path) -> None:
        self._engine, self._folder, self._given = engine, folder, reading
        self._tables, self._has_one_file = engine.open(files, reading), len(files) == 1
        self._uses = choose_uses(engine, self._tables, reading)
        self._reading, self._warnings = self._uses.reading, self._uses.warnings
        self._features, self._order = list(self._reading.features or ()), order_columns(self._reading)
        categories = self._reading.categories or {}
        columns = [(name, text) for name in self._reading.covariates for text in categories.get(name, [None])]
        self._columns = [*((name, None) for name in self._features), *columns]
        self._names = [name if text is None else f"{name}={text}" for name, text in self._columns]
        self._covariates = [*self._names[len(self._features) :], *derived_names(self._reading)]
        self._notes: Counter[str] = Counter(dict.fromkeys(NOTES, 0))

    def run(self, *, origin: str, with_future: bool) -> None:
        """Write the canonical form.

        Raises:
            UserError: If the files hold something that the user has to decide about.
        """
        self._gather()
        self._check_values()
        profile = profile_columns(
            self._engine, self._names, self._tables[0], self._given, self._uses, where=self._where
        )
        self._notes["missing values"] = sum(column["missing"] for column in profile)
        stretches = self._write(self._sort())
        widths = len(self._features), len(self._covariates)
        values, covariates, times = map_files(self._folder, *widths, has_times=bool(self._order))
        stretches, future = split_future(stretches, values) if with_future else (stretches, {})
        if self._reading.missing == "error":
            self._refuse_missing(stretches, values, covariates)
        pieces = cut(stretches, (values, covariates), times, self._reading, self._notes)
        if not pieces:
            counts = ", ".join(f"{name}: {count}" for name, count in self._notes.items() if count)
            hint = "Set data.missing=interpolate or data.gaps=keep"
            raise UserError(f"data.path: no episode of 2 rows is left ({counts})", hint=hint)
        if self._reading.elapsed:
            covariates[[piece.first for piece in pieces], self._covariates.index("elapsed")] = 0
        first = self._tables[0]
        meta = {
            "origin": origin, "features": self._features, "covariates": self._covariates, "future": future,
            "units": [(self._reading.units or {}).get(name, "") for name in self._features],
            "pieces": [(p.name, p.recording, p.first, p.end) for p in pieces],
            "notes": dict(self._notes), "reading": self._reading.model_dump(),
            **time_facts(stretches, pieces, times, self._reading, self._notes, self._warnings),
            "warnings": self._warnings,
            "report": {"files": len(self._tables), "columns": profile, "passed over": self._uses.passed_over,
                       "dialect": str(first.dialect or ""), "time": self._order,
                       "episode": self._reading.episode_column},
        }  # fmt: skip
        (self._folder / "meta.json").write_text(json.dumps(meta))

    def _gather(self) -> None:
        """Put all rows into one table of the engine, in the order of the files: group, episode, time and numbers."""
        fields = ", ".join(f"x{c} DOUBLE" for c in range(len(self._columns)))
        self._engine.rows(
            f"CREATE TABLE raw (part INTEGER, r BIGINT, g VARCHAR, e VARCHAR, t BIGINT, {fields})"
        )
        episode, rows = self._reading.episode_column, 0
        for part, table in enumerate(self._tables):
            label = table.text(episode) if episode else "''"
            alone = self._has_one_file and (episode is not None or table.array)
            group = "" if episode in table.folders else table.array if alone else table.name
            time = "NULL"
            if self._order:
                time = time_sql(table, self._order, self._reading.time_format, self._reading.decimal)
            written, numbers = zip(*(self._number(table, c) for c in range(len(self._columns))), strict=True)
            most = BOMB * table.size // (8 * len(self._columns)) + 2**24
            numbered = f'(SELECT *, row_number() OVER () AS "row of the file" FROM {table.relation})'
            chosen = f'SELECT "row of the file" AS r, {label} AS e, {time} AS t, {", ".join(written)} FROM {numbered}'
            limited = f"({chosen} WHERE NOT {table.repeats} LIMIT {most})"
            values = f"SELECT {part}, r, {literal(group)}, e, t, {', '.join(numbers)} FROM {limited}"
            self._engine.rows(f"INSERT INTO raw {values}", table.where)
            before, rows = rows, self._engine.rows("SELECT count(*) FROM raw")[0][0]
            last = self._engine.rows(f"SELECT max(r) FROM raw WHERE part = {part}")[0][0] or 0
            if last > rows - before:
                self._warnings.append(
                    f"{table.where}: {last - rows + before} line(s) with the header again passed over"
                )
            if rows == before:
                raise UserError(f"{table.where}: not one row of values")
            if rows - before == most:
                hint = "If these are recordings, save them as NPY files"
                raise UserError(
                    f"{table.where}: its numbers take over {BOMB} times its bytes on disk", hint=hint
                )
        if self._order:
            blank = " AND ".join(f"x{c} IS NULL" for c in range(len(self._columns)))
            self._engine.rows(f"DELETE FROM raw WHERE t IS NULL AND {blank}")
        self._notes["rows"] = self._engine.rows("SELECT count(*) FROM raw")[0][0]
        self._notes["rows without anything"] = rows - self._notes["rows"]

    def _number(self, table: Table, c: int) -> tuple[str, str]:
        """Return SQL of column c as it is written, and of its numbers but for those that stand for no value."""
        name, category = self._columns[c]
        if category is None:
            absent = table.absent(name, self._reading)
            number = f"CASE WHEN x{c} IN {absent} THEN NULL ELSE x{c} END"
            return f"{table.number(name, self._reading)} AS x{c}", number
        is_it = f"{table.text(name, self._reading)} IS NOT DISTINCT FROM {literal(category)}"
        return f"CAST({is_it} AS DOUBLE) AS x{c}", f"x{c}"

    def _check_values(self) -> None:
        """Refuse texts among numbers, numbers that are too large, rows without a time or an episode."""
        found = self._engine.measure([[f"max(abs(x{c}))"] for c in range(len(self._columns))])
        for c, (name, _) in enumerate(self._columns):
            if (found[c][0] or 0) > LARGEST and (bad := self._first(f"abs(x{c}) > {LARGEST}", [name])):
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

    def _where(self, c: int, value: float) -> str:
        """File, column and row of the first of a column's values."""
        found = self._first(f"x{c} = {value}::DOUBLE", [self._columns[c][0]])
        return found[0] if found else f"column {self._names[c]!r}"

    def _first(self, condition: str, names: Sequence[str]) -> tuple[str, str] | None:
        """Where the first row is that fulfills a condition on the table ``raw``, and the text of columns in it."""
        found = self._engine.rows(f"SELECT part, r FROM raw WHERE {condition} ORDER BY part, r LIMIT 1")
        if not found:
            return None
        table, row = self._tables[found[0][0]], found[0][1]
        text = ", ' ', ".join(f"CAST({table.columns[name][0]} AS VARCHAR)" for name in names)
        [(text,)] = self._engine.rows(f"SELECT concat({text}) FROM {table.relation} LIMIT 1 OFFSET {row - 1}")
        return f"{table.where}, column {names[0]!r}, row {row}", text.strip()

    def _sort(self) -> list[tuple[str, str]]:
        """Make the table ``sorted`` of rows by episode, in order of appearance, and by time; give the episodes."""
        run, numbers = self._engine.rows, ", ".join(f"x{c}" for c in range(len(self._columns)))
        run("CREATE TABLE episodes AS SELECT g, e, row_number() OVER (ORDER BY min((part, r))) - 1 AS k "
            "FROM raw GROUP BY g, e")  # fmt: skip
        episodes = run("SELECT g, e FROM episodes ORDER BY k")
        changes, back, same = self._order_of("SELECT g || '/' || e AS k, t FROM raw")
        rows = f"SELECT k, t, {numbers} FROM raw JOIN episodes USING (g, e)"
        if changes + 1 == len(episodes) and not back and not same:
            run(f"CREATE VIEW sorted AS {rows}")
            return episodes
        if back:
            by = " and ".join(self._order)
            self._warnings.append(
                f"rows do not run forward in time ({back:,} times one is earlier): sorted by {by}"
            )
        run(f"CREATE TABLE sorted AS {rows} ORDER BY {'k, t' if self._order else 'k, part, r'}")
        if self._order and self._order_of("SELECT k, t FROM sorted")[2]:
            run("CREATE TABLE once AS SELECT DISTINCT * FROM sorted ORDER BY k, t")
            self._notes["rows repeated"] = self._notes["rows"] - run("SELECT count(*) FROM once")[0][0]
            if self._order_of("SELECT k, t FROM once")[2]:
                [(k, t)] = run(
                    "SELECT k, t FROM once GROUP BY k, t HAVING count(*) > 1 ORDER BY k, t LIMIT 1"
                )
                shown = np.datetime64(t, "ns").astype("M8[s]") if t > FIRST_DATE_NS else f"{t / 1e9:g}"
                name = "/".join(filter(None, episodes[k])) or self._tables[0].where
                label = find_label(self._order, sample(self._engine, self._tables[0], self._reading))
                raise UserError(
                    f"{name}: several rows have the time {shown}, with other values",
                    hint=f"Set {episode_hint(label)}, write local times over a change of the clocks in UTC, "
                    "or correct the rows",
                )
            run("DROP TABLE sorted; ALTER TABLE once RENAME TO sorted")
            self._warnings.append(f"{self._notes['rows repeated']:,} rows came twice: one of each is kept")
        return episodes

    def _order_of(self, rows: str) -> tuple[int, int, int]:
        """How often the episode changes from row to row, and within one the time goes back, or stays."""
        before = "lag(k) OVER () AS k0, lag(t) OVER () AS t0"
        counts = "count(*) FILTER (k != k0), count(*) FILTER (k = k0 AND t < t0), count(*) FILTER (k = k0 AND t = t0)"
        return self._engine.rows(f"SELECT {counts} FROM (SELECT *, {before} FROM ({rows}))")[0]

    def _write(self, episodes: Sequence[tuple[str, str]]) -> list[Stretch]:
        """Write all rows in single precision; give where each recording lies."""
        ends, features = [0] * len(episodes), len(self._features)
        with ExitStack() as stack:
            files = [stack.enter_context((self._folder / name).open("wb")) for name in FILES]
            for k, group in groupby(self._pieces(), key=lambda piece: piece[0]):
                before = None
                for _, times, rows in _resampled(group, self._reading) if self._reading.resample_s else group:
                    derived = derive(times, self._reading, before=times[0] if before is None else before)
                    covariates = np.concatenate([rows[:, features:], derived], axis=1)
                    for file, array in zip(files, (rows[:, :features], covariates, times), strict=True):
                        file.write(array.tobytes())
                    before, ends[k] = times[-1], ends[k] + len(rows)
        stamps = map_times(self._folder) if self._order else None
        stretches = []
        for labels, end, length in zip(episodes, np.cumsum(ends).tolist(), ends, strict=True):
            name, first = "/".join(filter(None, labels)), end - length
            recent = None if stamps is None else stamps[first : min(end, first + 4 * BLOCK)]
            step = None if recent is None else usual_step(recent)
            stretches.append(Stretch(name=name, recording=name, first=first, end=end, step=step))
        return stretches

    def _pieces(self) -> Iterator[tuple[int, Times, Rows]]:
        """Episode, times and rows, some at a time."""
        floats = ", ".join(f"CAST(x{c} AS FLOAT) AS x{c}" for c in range(len(self._columns)))
        rows = f"SELECT k, coalesce(t, 0), {floats} FROM sorted"
        for batch in self._engine.stream(rows, width=len(self._columns)):
            k, times, *numbers = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            values = np.stack(numbers, axis=1)
            for first, end in pairwise([0, *(np.flatnonzero(np.diff(k)) + 1).tolist(), len(k)]):
                yield int(k[first]), times[first:end], values[first:end]

    def _refuse_missing(self, stretches: Sequence[Stretch], values: Rows, covariates: Rows) -> None:
        counts = Counter[str]()
        for names, array in ((self._features, values), (self._covariates, covariates)):
            for block in (b for s in stretches for b in blocks(s.first, s.end)):
                counts.update(dict(zip(names, np.isnan(array[block]).sum(axis=0).tolist(), strict=True)))
        if missing := {name: count for name, count in counts.items() if count}:
            c = self._names.index(next(iter(missing)))
            where, _ = self._first(f"x{c} IS NULL", [self._columns[c][0]]) or (self._names[c], "")
            total = ", ".join(f"{name}: {count:,}" for name, count in list(missing.items())[:8])
            raise UserError(
                f"{where}: a value is missing ({total} in all)",
                hint=f"Set data.missing=interpolate or drop{self._uses.found and f' {self._uses.found}'}, "
                "or choose other columns by data.features",
            )


def _resampled(
    group: Iterable[tuple[int, Times, Rows]], reading: Reading
) -> Iterator[tuple[int, Times, Rows]]:
    """One episode at even times; it is held in memory as a whole."""
    episodes, times, rows = zip(*group, strict=True)
    yield episodes[0], *resample(np.concatenate(times), np.concatenate(rows), reading)
