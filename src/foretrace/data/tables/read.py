"""Recordings in one canonical form: single precision, mapped from the cache, in episodes without holes.

Shapes: N rows of all episodes, T rows of one, F features, K covariates, C = F and the covariates that files hold.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from foretrace.config.data import Reading
from foretrace.data.sequences import Sequences
from foretrace.data.tables.arrays import map_array, open_arrays
from foretrace.data.tables.columns import Uses, choose_uses, number_sql, order_columns, refuse_texts, text_sql
from foretrace.data.tables.engine import Engine, Source, literal
from foretrace.data.tables.episodes import BLOCK, Rows, Stretch, blocks, cut, derive, derived_names
from foretrace.data.tables.files import find_files, stems
from foretrace.data.tables.quality import profile_columns
from foretrace.data.tables.times import (
    FIRST_DATE_NS,
    JUMP,
    TIME_NAME,
    UNITS,
    Times,
    constant_step,
    resample,
    time_sql,
    usual_step,
)
from foretrace.errors import UserError

VERSION = 1  # of the canonical form
LARGEST = 1e36  # float32 ends at 3.4e38: differences and forecasts need room above what was recorded
FILES = ("values", "covariates", "times")
BOMB = 200  # rows of numbers take at most so many times the bytes of their file
NOTES = ("rows", "missing values", "values interpolated", "gaps in time", "rows left out", "rows repeated",
         "rows without anything", "episodes dropped", "episodes too short")  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Recordings:
    """What was read, and how.

    Args:
        sequences: Episodes without holes.
        reading: The settings with all that was found out: with them, new files are read the same way.
        report: What a person may want to know of the columns and of the time.
        warnings: What a person should know before training.
        future: For each recording, first row after its last with features and one past its last; covariates alone.
    """

    sequences: Sequences
    reading: Reading
    report: dict[str, Any]
    warnings: tuple[str, ...]
    future: dict[str, tuple[int, int]]


def read_recordings(path: str, reading: Reading, *, cache: Path, with_future: bool = False) -> Recordings:
    """Reads recordings from files of text, Parquet files and arrays.

    Each file is an episode, as is each value of ``episode_column`` in a file, each array of an NPZ file and each first
    index of an NPY file of shape (E, T, F). An episode is cut where rows are missing in time. Rows in errors count
    from 1, without the header.

    Args:
        path: A file, a folder, a pattern or a URL.
        reading: Which columns, and how they are written.
        cache: Folder in which the canonical form is kept for the next time.
        with_future: Set rows at the end of an episode that have no feature apart, instead of minding them.

    Raises:
        UserError: If the files cannot be read as asked for, or nothing is left.
    """
    files = find_files(path, cache=cache)
    if (mapped := _map(files, reading, path)) is not None:
        return mapped
    facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(
        repr((VERSION, facts, path, reading.model_dump(), with_future)).encode()
    ).hexdigest()[:20]
    folder = cache / "tables" / key
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(folder.parent, os.W_OK):
        hint = f"Set FORETRACE_HOME to a folder that user {os.getuid()} may write."
        raise UserError(f"{folder.parent}, where data are kept, cannot be written", hint=hint)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            aside = folder.with_name(f".{key}.part")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                (aside / "scratch").mkdir(parents=True)
                with Engine(aside / "scratch") as engine:
                    _Conversion(engine, files, reading, aside, origin=path).run(with_future=with_future)
                shutil.rmtree(aside / "scratch")
                aside.replace(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return _open(folder)


class _Conversion:
    """From files to the canonical form in an empty folder: values, covariates, times, and what is known of them."""

    def __init__(
        self, engine: Engine, files: Sequence[Path], reading: Reading, folder: Path, *, origin: str
    ) -> None:
        self.engine, self.folder, self.origin = engine, folder, origin
        self.sources, self.has_one_file = engine.sources(files, reading), len(files) == 1
        self.uses: Uses = choose_uses(engine, self.sources, reading)
        self.given, self.reading = reading, self.uses.reading
        self.features, self.order = list(self.reading.features or ()), order_columns(self.reading)
        categories = self.reading.categories or {}
        covariates = [
            (name, text) for name in self.reading.covariates for text in categories.get(name, [None])
        ]
        self.columns = [(name, None) for name in self.features] + covariates
        self.names = [name if text is None else f"{name}={text}" for name, text in self.columns]
        self.numbers = ", ".join(f"x{c}" for c in range(len(self.columns)))
        self.notes: Counter[str] = Counter(dict.fromkeys(NOTES, 0))
        self.warnings = list(self.uses.warnings)

    def run(self, *, with_future: bool) -> None:
        """Writes the canonical form.

        Raises:
            UserError: If the files hold something that the user has to decide about.
        """
        self._gather()
        self._check_values()
        episodes = self._sort()
        stretches = self._write(episodes)
        values, covariates, times = _arrays(
            self.folder, len(self.features), self._width(), has_times=bool(self.order)
        )
        stretches, future = _split_future(stretches, values) if with_future else (stretches, {})
        self._mind_missing(stretches, values, covariates)
        pieces = cut(stretches, (values, covariates), times, self.reading, self.notes)
        if not pieces:
            counts = ", ".join(f"{name}: {count}" for name, count in self.notes.items() if count)
            raise UserError(f"data.path: no episode of 2 rows is left ({counts})",
                            hint="Set data.missing=interpolate or data.gaps=keep")  # fmt: skip
        if self.reading.elapsed:
            covariates[
                [piece.first for piece in pieces], self._width() - len(derived_names(self.reading))
            ] = 0
        meta = {
            "origin": self.origin, "features": self.features, "future": future,
            "covariates": self.names[len(self.features) :] + derived_names(self.reading),
            "units": [(self.reading.units or {}).get(name, "") for name in self.features],
            "pieces": [(p.name, p.recording, p.first, p.end) for p in pieces],
            "notes": dict(self.notes), "reading": self.reading.model_dump(),
            **self._time(stretches, pieces, times), "warnings": self.warnings,
            "report": {"files": len(self.sources), "columns": self.profile, "passed over": self.uses.passed_over,
                       "dialect": str(self.sources[0].dialect or ""), "time": self.order,
                       "episode": self.reading.episode_column},
        }  # fmt: skip
        (self.folder / "meta.json").write_text(json.dumps(meta))

    def _width(self) -> int:
        return len(self.columns) - len(self.features) + len(derived_names(self.reading))

    def _gather(self) -> None:
        """All rows in one table of the engine, in the order of the files: group, episode, time and numbers."""
        fields = ", ".join(f"x{c} DOUBLE" for c in range(len(self.columns)))
        self.engine.run(f"CREATE TABLE raw (part INTEGER, g VARCHAR, e VARCHAR, t BIGINT, {fields})")
        episode, rows = self.reading.episode_column, 0
        for part, source in enumerate(self.sources):
            numbers = [self._number(source, name, text) for name, text in self.columns]
            time = time_sql(source, self.order, self.reading.time_format) if self.order else "NULL"
            label = text_sql(source, episode, Reading()) if episode else "''"
            folders = episode is not None and source.columns[episode][0].startswith("'")
            alone = self.has_one_file and (episode is not None or source.array)
            group = literal("" if folders else source.array if alone else source.name)
            most = BOMB * source.size // (8 * len(numbers)) + 2**24
            chosen = f"SELECT {part}, {group}, {label}, {time}, {', '.join(numbers)}"
            self.engine.run(f"INSERT INTO raw {chosen} FROM {source.relation} LIMIT {most}", source.where)
            before, rows = rows, self.engine.rows("SELECT count(*) FROM raw")[0][0]
            if rows == before:
                raise UserError(f"{source.where}: not one row of values")
            if rows - before == most:
                raise UserError(f"{source.where}: its numbers take over {BOMB} times its bytes on disk",
                                hint="If these are recordings, save them as NPY files")  # fmt: skip
        if self.order:
            blank = " AND ".join(f"x{c} IS NULL" for c in range(len(self.columns)))
            self.engine.run(f"DELETE FROM raw WHERE t IS NULL AND {blank}")
            self.notes["rows without anything"] = rows - self.engine.rows("SELECT count(*) FROM raw")[0][0]
        self.notes["rows"] = self.engine.rows("SELECT count(*) FROM raw")[0][0]

    def _number(self, source: Source, name: str, text: str | None) -> str:
        if text is None:
            return number_sql(source, name, self.reading)
        return f"CAST({text_sql(source, name, self.reading)} IS NOT DISTINCT FROM {literal(text)} AS DOUBLE)"

    def _check_values(self) -> None:
        """Refuses texts among numbers, numbers that are too large, rows without a time or an episode, doubtful ones."""
        for c, (name, _) in enumerate(self.columns):
            part = self.engine.rows(f"SELECT min(part) FROM raw WHERE abs(x{c}) > {LARGEST}")[0][0]
            if part is not None:
                source = self.sources[part]
                refuse_texts(self.engine, source, name, self.reading, self.uses.found)
                row, value = self._first(
                    source, number_sql(source, name, self.reading), f"abs(n) > {LARGEST}"
                )
                raise UserError(
                    f"{source.where}, column {name!r}, row {row}: {value:g} is not finite, or over {LARGEST:.0e}",
                    hint="Correct the value, or set data.missing_values and data.missing",
                )
        if self.order:
            part = self.engine.rows("SELECT min(part) FROM raw WHERE t IS NULL")[0][0]
            if part is not None:
                source = self.sources[part]
                row, _ = self._first(
                    source, time_sql(source, self.order, self.reading.time_format), "n IS NULL"
                )
                texts = ", ' ', ".join(f"CAST({source.columns[name][0]} AS VARCHAR)" for name in self.order)
                text = self.engine.rows(
                    f"SELECT concat({texts}) FROM {source.relation} LIMIT 1 OFFSET {row - 1}"
                )[0][0]
                what = f"{text.strip()[:100]!r} is not a time" if text.strip() else "no time"
                raise UserError(f"{source.where}, column {self.order[0]!r}, row {row}: {what}",
                                hint="Set data.time_format, or correct the row")  # fmt: skip
        part = self.engine.rows("SELECT min(part) FROM raw WHERE e IS NULL")[0][0]
        if part is not None:
            source, name = self.sources[part], str(self.reading.episode_column)
            row, _ = self._first(source, text_sql(source, name, Reading()), "n IS NULL")
            raise UserError(f"{source.where}, column {name!r}, row {row}: no value, so no episode",
                            hint="Name the row's episode, or set data.episode_column=null")  # fmt: skip
        self.profile = profile_columns(
            self.engine,
            self.names,
            self.features,
            self.sources[0],
            self.given,
            self.uses.found,
            self.warnings,
        )
        self.notes["missing values"] = sum(column["missing"] for column in self.profile)

    def _first(self, source: Source, sql: str, condition: str) -> tuple[int, Any]:
        """The first row of a file that fulfills a condition on ``n``, counted from 1, and its value there."""
        inner = f"SELECT row_number() OVER () AS r, {sql} AS n FROM {source.relation}"
        return self.engine.rows(f"SELECT r, n FROM ({inner}) WHERE {condition} ORDER BY r LIMIT 1")[0]

    def _sort(self) -> list[tuple[str, str]]:
        """Makes the table ``sorted`` of rows by episode, in order of appearance, and by time; gives the episodes."""
        self.engine.run("CREATE TABLE episodes AS SELECT g, e, row_number() OVER (ORDER BY min(rowid)) - 1 AS k "
                        "FROM raw GROUP BY g, e")  # fmt: skip
        self.engine.run(
            f"CREATE VIEW sorted AS SELECT k, t, {self.numbers} FROM raw JOIN episodes USING (g, e)"
        )
        changes, back, same = self._order_of("SELECT g || '/' || e AS k, t FROM raw")
        episodes = self.engine.rows("SELECT g, e FROM episodes ORDER BY k")
        if changes + 1 == len(episodes) and not back and not same:
            return episodes
        if back:
            self.notes["tables sorted"] = 1
            self.warnings.append(
                f"rows do not run forward in time ({back:,} times one is earlier): sorted by {' and '.join(self.order)}"
            )
        self.engine.run("DROP VIEW sorted")
        rows, order = "raw JOIN episodes USING (g, e)", "k, t" if self.order else "k, raw.rowid"
        self.engine.run(f"CREATE TABLE sorted AS SELECT k, t, {self.numbers} FROM {rows} ORDER BY {order}")
        if self.order and self._order_of("SELECT k, t FROM sorted")[2]:
            self.engine.run("CREATE TABLE once AS SELECT DISTINCT * FROM sorted ORDER BY k, t")
            kept = self.engine.rows("SELECT count(*) FROM once")[0][0]
            self.notes["rows repeated"] = self.notes["rows"] - kept
            if self._order_of("SELECT k, t FROM once")[2]:
                k, t = self.engine.rows(
                    "SELECT k, t FROM once GROUP BY k, t HAVING count(*) > 1 ORDER BY k, t LIMIT 1"
                )[0]
                shown = np.datetime64(t, "ns").astype("M8[s]") if t > FIRST_DATE_NS else f"{t / 1e9:g}"
                name = "/".join(filter(None, episodes[k])) or self.sources[0].where
                raise UserError(
                    f"{name}: several rows have the time {shown}, with other values",
                    hint="Set data.episode_column if a file has several recordings, or correct the rows",
                )
            self.engine.run("DROP TABLE sorted; ALTER TABLE once RENAME TO sorted")
            self.warnings.append(f"{self.notes['rows repeated']:,} rows came twice: one of each is kept")
        return episodes

    def _order_of(self, rows: str) -> tuple[int, int, int]:
        """How often the episode changes from row to row, and within one the time goes back, or stays."""
        before = "lag(k) OVER () AS k0, lag(t) OVER () AS t0"
        counts = "count(*) FILTER (k != k0), count(*) FILTER (k = k0 AND t < t0), count(*) FILTER (k = k0 AND t = t0)"
        return self.engine.rows(f"SELECT {counts} FROM (SELECT *, {before} FROM ({rows}))")[0]

    def _write(self, episodes: Sequence[tuple[str, str]]) -> list[Stretch]:
        """Writes all rows in single precision; gives where each recording lies."""
        ends = [0] * len(episodes)
        with ExitStack() as stack:
            files = [stack.enter_context((self.folder / name).open("wb")) for name in FILES]
            for k, group in groupby(self._pieces(), key=lambda piece: piece[0]):
                before = None
                for _, times, rows in _resampled(group, self.reading) if self.reading.resample_s else group:
                    derived = derive(times, self.reading, before=times[0] if before is None else before)
                    covariates = np.concatenate([rows[:, len(self.features) :], derived], axis=1)
                    for file, array in zip(
                        files, (rows[:, : len(self.features)], covariates, times), strict=True
                    ):
                        file.write(array.tobytes())
                    before, ends[k] = times[-1], ends[k] + len(rows)
        names = ["/".join(filter(None, labels)) for labels in episodes]
        rows_of, stamps = np.cumsum(ends), _map_times(self.folder) if self.order else None
        spans = [(int(end - length), int(end)) for end, length in zip(rows_of, ends, strict=True)]
        steps = [
            None if stamps is None else usual_step(np.diff(stamps[a : min(b, a + 4 * BLOCK)]))
            for a, b in spans
        ]
        return [
            Stretch(name=name, recording=name, first=a, end=b, step=step)
            for name, (a, b), step in zip(names, spans, steps, strict=True)
        ]

    def _pieces(self) -> Iterator[tuple[int, Times, Rows]]:
        """Episode, times and rows, some at a time."""
        floats = ", ".join(f"CAST(x{c} AS FLOAT) AS x{c}" for c in range(len(self.columns)))
        for batch in self.engine.stream(
            f"SELECT k, coalesce(t, 0), {floats} FROM sorted", width=len(self.columns)
        ):
            k, times, *numbers = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            rows = np.stack(numbers, axis=1)
            edges = [0, *(np.flatnonzero(np.diff(k)) + 1).tolist(), len(k)]
            for first, end in pairwise(edges):
                yield int(k[first]), times[first:end], rows[first:end]

    def _mind_missing(self, stretches: Sequence[Stretch], values: Rows, covariates: Rows) -> None:
        """Refuses missing values where nothing is said about them."""
        if self.reading.missing != "error":
            return
        counts = Counter[str]()
        for names, array in ((self.features, values), (self.names[len(self.features) :], covariates)):
            for block in (b for s in stretches for b in blocks(s.first, s.end)):
                counts.update(dict(zip(names, np.isnan(array[block]).sum(axis=0).tolist(), strict=False)))
        missing = {name: count for name, count in counts.items() if count}
        if missing:
            name, shown = next(iter(missing)), ", ".join(f"{n}: {c:,}" for n, c in list(missing.items())[:8])
            column = self.columns[self.names.index(name)][0]
            part = self.engine.rows(f"SELECT min(part) FROM raw WHERE x{self.names.index(name)} IS NULL")[0][
                0
            ]
            source = self.sources[part or 0]
            row, _ = self._first(source, number_sql(source, column, self.reading), "n IS NULL OR isnan(n)")
            raise UserError(
                f"{source.where}, column {name!r}, row {row}: a value is missing ({shown} in all)",
                hint=f"Set data.missing=interpolate or drop{self.uses.found and f' {self.uses.found}'}, "
                "or choose other columns by data.features",
            )

    def _time(
        self, stretches: Sequence[Stretch], pieces: Sequence[Stretch], times: Times | None
    ) -> dict[str, Any]:
        """The time step, its spread, and whether the time has dates."""
        given, facts = self.reading.dt_s, {"has_times": False, "has_dates": False, "dt_s": self.reading.dt_s}
        if times is None:
            if self.reading.elapsed or self.reading.calendar or self.reading.resample_s:
                raise UserError(
                    "data.order_column: needed for data.elapsed, data.calendar and data.resample_s"
                )
            return facts
        is_number = self.reading.time_format in UNITS and len(self.order) == 1
        is_clock = "%" in str(self.reading.time_format) and not re.search(
            "%[djyYG]", str(self.reading.time_format)
        )
        has_dates = not is_clock and (not is_number or int(times[0]) > FIRST_DATE_NS)
        if self.reading.calendar and not has_dates:
            raise UserError(
                "data.calendar: the time has no dates", hint="Set data.time_format if it counts since 1970"
            )
        spacings = (
            np.concatenate([np.diff(times[p.first : min(p.end, p.first + BLOCK)]) for p in pieces[:1000]])
            / 1e9
        )
        is_counter = (
            is_number
            and not has_dates
            and bool((spacings == 1).all())
            and not TIME_NAME.search(self.order[0])
        )
        if is_counter:
            return facts | {"has_times": False}
        usual = next((s.step / 1e9 for s in stretches if s.step), None)
        if given and usual and abs(usual - given) > JUMP * given:
            raise UserError(f"data.dt_s: {given:g}, but rows are {usual:g} s apart", hint="Leave it out")
        step = given or constant_step([times[p.first : p.end] for p in pieces])
        spread = {
            "median": float(np.median(spacings)),
            "min": float(spacings.min()),
            "max": float(spacings.max()),
        }
        if usual is None and not self.reading.elapsed and not self.reading.resample_s:
            self.warnings.append(
                f"irregular time steps ({spread['min']:.4g} to {spread['max']:.4g} s): data.elapsed=true tells the "
                "model, data.resample_s makes them even"
            )
        if self.notes["gaps in time"]:
            self.warnings.append(
                f"gaps in time: {self.notes['gaps in time']:,}, at which {len(stretches):,} recording(s) were cut into "
                f"{len(pieces):,} pieces; data.gaps=keep spans them"
            )
        return {"has_times": True, "has_dates": bool(has_dates), "dt_s": step, "steps": spread}


def _resampled(
    group: Iterable[tuple[int, Times, Rows]], reading: Reading
) -> Iterator[tuple[int, Times, Rows]]:
    """One episode at even times; it is held in memory as a whole."""
    pieces = list(group)
    times, rows = resample(
        np.concatenate([t for _, t, _ in pieces]), np.concatenate([r for *_, r in pieces]), reading
    )
    yield pieces[0][0], times, rows


def _split_future(
    stretches: Sequence[Stretch], values: Rows
) -> tuple[list[Stretch], dict[str, tuple[int, int]]]:
    """Sets rows without any feature at the end of each recording apart."""
    kept, future = [], {}
    for stretch in stretches:
        end = stretch.end
        while end > stretch.first and np.isnan(values[end - 1]).all():
            end -= 1
        if end == stretch.first:
            raise UserError(f"{stretch.name}: not one row with features")
        kept.append(replace(stretch, end=end))
        if end < stretch.end:
            future[stretch.recording] = end, stretch.end
    return kept, future


def _arrays(
    folder: Path, features: int, covariates: int, *, has_times: bool
) -> tuple[Rows, Rows, Times | None]:
    """The files as arrays (N, F), (N, K) and (N,); what is written to them is kept."""
    values = np.memmap(folder / "values", np.float32, "r+").reshape(-1, features).view(np.ndarray)
    if not covariates:
        return values, np.zeros((len(values), 0), np.float32), _map_times(folder) if has_times else None
    known = np.memmap(folder / "covariates", np.float32, "r+").reshape(-1, covariates).view(np.ndarray)
    return values, known, _map_times(folder) if has_times else None


def _map_times(folder: Path) -> Times:
    return np.memmap(folder / "times", np.int64, "r").view(np.ndarray)


def _open(folder: Path) -> Recordings:
    """What was converted before."""
    meta = json.loads((folder / "meta.json").read_text())
    features, covariates = meta["features"], meta["covariates"]
    values, known, times = _arrays(folder, len(features), len(covariates), has_times=meta["has_times"])
    sequences = Sequences(
        values=values,
        bounds=np.array([piece[2:] for piece in meta["pieces"]], np.int64),
        feature_names=tuple(features),
        units=tuple(meta["units"]),
        episode_names=tuple(piece[0] for piece in meta["pieces"]),
        recordings=tuple(piece[1] for piece in meta["pieces"]),
        dt_s=meta["dt_s"],
        covariates=known,
        covariate_names=tuple(covariates),
        origin=meta["origin"],
        notes={name: count for name, count in meta["notes"].items() if name in NOTES},
        times=times,
        has_dates=meta["has_dates"],
        warnings=tuple(meta["warnings"]),
        reading=meta["reading"],
    )
    return Recordings(
        sequences=sequences,
        reading=Reading.model_validate(meta["reading"]),
        report=meta["report"] | {"steps": meta.get("steps")},
        warnings=tuple(meta["warnings"]),
        future={name: tuple(rows) for name, rows in meta["future"].items()},
    )


def _map(files: Sequence[Path], reading: Reading, origin: str) -> Recordings | None:
    """One NPY file of single precision, read where it lies; None for what has to be converted."""
    plain = reading.model_copy(update={"units": None, "dt_s": None, "missing": "error"})
    if len(files) != 1 or not files[0].name.lower().endswith(".npy") or plain != Reading():
        return None
    open_arrays(files[0])  # checks it
    whole = map_array(files[0])
    if whole.dtype != np.float32 or not whole.flags.c_contiguous or whole.ndim < 2 or whole.shape[-2] < 2:
        return None
    values = whole.reshape(-1, whole.shape[-1])
    if not all((np.abs(values[b]) <= LARGEST).all() for b in blocks(0, len(values))):
        return None
    steps, names = whole.shape[-2], [f"feature_{f}" for f in range(values.shape[1])]
    ends = steps * np.arange(1, len(values) // steps + 1)
    episodes = [f"episode {e}" for e in range(len(ends))] if whole.ndim == 3 else stems(files)
    sequences = Sequences(
        values=values,
        bounds=np.stack([ends - steps, ends], axis=1),
        feature_names=tuple(names),
        units=tuple((reading.units or {}).get(name, "") for name in names),
        episode_names=tuple(episodes),
        recordings=tuple(episodes),
        dt_s=reading.dt_s,
        covariates=np.zeros((len(values), 0), np.float32),
        origin=origin,
        notes=dict.fromkeys(NOTES, 0) | {"rows": len(values)},
        reading=reading.model_copy(update={"features": names}).model_dump(),
    )
    resolved = Reading.model_validate(sequences.reading)
    return Recordings(sequences=sequences, reading=resolved, report={"files": 1}, warnings=(), future={})
