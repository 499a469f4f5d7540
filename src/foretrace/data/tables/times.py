"""The time of rows: which columns give it, how it is written, and how regular it is.

Times are whole nanoseconds: since 1970 where the columns hold dates, else since the column's own zero.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.engine import Engine, Source, listed, literal
from foretrace.errors import UserError

Times = npt.NDArray[np.int64]

UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y%m%d",
        "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d %b %Y", "%d %B %Y",
        "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%a %d %b %Y", "%a, %d %b %Y", "%d%b%Y", "%Y %m %d")  # fmt: skip
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b-%y", "%b %Y", "%b-%Y", "%B %Y", "%Y-%b", "%YM%m", "%Y %m")
CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H.%M.%S", "%H.%M", "%I:%M:%S %p", "%I:%M %p", "%H%M", "%H%M%S", "%H",
          "%H:%M:%S%z", "%H:%M:%S %z", "%H:%M%z")  # fmt: skip
DATES = (*DAYS, *MONTHS)
FORMATS = (
    *DATES,
    *(f"{day}{between}{clock}" for day, between, clock in product(DAYS, (" ", "T", ", ", ":"), CLOCKS)),
)
LONGEST = 40  # characters of a time
DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
TIME_NAME = re.compile(
    r"(?i)(^|[^a-z])(t|ts|time|times|timestamps?|stamp|datetime|date|secs?|seconds?|epoch|clock)([^a-z]|$)"
)
PARTS = ("year", "month", "day", "hour", "minute", "second")
ZONE = r"(Z|[+-]\d\d:?\d\d)\s*$"
SAME_STEP = 0.05  # spacings this near to each other are one time step: stamps are rounded to ms
MONTH_S = 27 * 86_400  # steps from here on are months, quarters, years: even only if they are equal
JUMP = 0.5  # a spacing this far from the time step, as a share of it, is no step
FIRST_DATE_NS = (
    3 * 10**17
)  # mid-1979: numbers since 1970 are above it, seconds since a recording's start below


def time_sql(source: Source, columns: Sequence[str], time_format: str | None) -> str:
    """SQL of the time in nanoseconds; NULL where it cannot be read."""
    expressions = [source.columns[name] for name in columns]
    expression, kind = expressions[0]
    if len(columns) == 1 and time_format in UNITS:
        scale = UNITS[time_format]
        if kind not in ("VARCHAR", "FLOAT", "DOUBLE") and not kind.startswith("DECIMAL"):
            return f"TRY_CAST(CAST({expression} AS HUGEINT) * {scale} AS BIGINT)"
        number = f"TRY_CAST(round(TRY_CAST({expression} AS DOUBLE) * {scale}) AS BIGINT)"
        if kind != "VARCHAR":
            return number
        whole = rf"regexp_full_match({expression}, '\s*[+-]?\d+\s*')"
        exact = f"TRY_CAST(TRY_CAST({expression} AS HUGEINT) * {scale} AS BIGINT)"
        return f"CASE WHEN {whole} THEN {exact} ELSE {number} END"
    if len(columns) == 1 and kind.startswith(("TIMESTAMP", "DATE")):
        stamp = (
            "TIMESTAMP_NS"
            if kind == "TIMESTAMP_NS"
            else "TIMESTAMPTZ"
            if kind.endswith("ZONE")
            else "TIMESTAMP"
        )
        return f"epoch_ns(CAST({expression} AS {stamp}))"
    texts = [
        f"CAST(CAST({sql} AS BIGINT) AS VARCHAR)"
        if kind in ("FLOAT", "DOUBLE")
        else f"trim(CAST({sql} AS VARCHAR))"
        for sql, kind in expressions
    ]
    text = texts[0] if len(texts) == 1 else f"concat_ws(' ', {', '.join(texts)})"
    if len(texts) > 1:
        text = f"CASE WHEN {' OR '.join(f'{t} IS NULL' for t in texts)} THEN NULL ELSE {text} END"
    if time_format == "iso":
        return f"epoch_ns(TRY_CAST({text} AS TIMESTAMPTZ))"
    return f"epoch_ns(TRY_CAST(try_strptime({text}, {literal(str(time_format))}) AS TIMESTAMPTZ))"


def recognize(
    engine: Engine, source: Source, kinds: Mapping[str, str], rows: Mapping[str, list[Any]], reading: Reading,
    notes: list[str],
) -> Reading:  # fmt: skip
    """Takes a column that plainly is the time for it, where none is named.

    Args:
        engine: That reads the table.
        source: The table.
        kinds: Kind of each column.
        rows: Its first rows.
        reading: Settings, without an order column.
        notes: What is said about columns that may be the time.

    Returns:
        The settings, with the order column and its format if one was found.
    """
    taken = {reading.episode_column, *reading.covariates, *(reading.features or ())}
    free = [name for name in kinds if name not in taken]
    texts = [name for name in free if kinds[name] in ("time", "text")]
    clocks = [name for name in texts if _formats(rows[name], CLOCKS) and not _formats(rows[name], DATES)]
    hours = [
        name for name in free if kinds[name] == "number" and re.fullmatch("(?i)hour|hr|time|hhmm|hh", name)
    ]
    single = [[name] for name in texts if name not in clocks]
    named = [
        [n]
        for n in free
        if kinds[n] == "number" and (TIME_NAME.search(n) or _is_time_by_size(n, rows[n], free))
    ]
    parts = [next((name for name in free if name.lower() == part), "") for part in PARTS]
    calendar = [parts[: parts.index("")] if "" in parts else parts]
    pairs = [[date[0], clock] for date, clock in product(single, (*clocks, *hours))]
    falling = list[str]()
    for columns in (
        *(calendar if len(calendar[0]) > 1 else ()),
        *pairs,
        *single,
        *named,
        *([name] for name in clocks),
    ):
        formats = time_formats(source, columns, rows)
        fitting = [
            f for f in formats if rises(times := _times(engine, source, columns, f)) and len(times) > 2
        ]
        if len(fitting) > 1:
            fitting = [f for f in fitting if is_regular(_times(engine, source, columns, f))] or fitting
        if len(fitting) > 1:
            raise UserError(
                f"{source.where}, column {columns[0]!r}: {rows[columns[0]][0]!r} can be read in several ways",
                hint=f"Set data.order_column={columns[0]} and data.time_format, e.g. one of {listed(fitting)}",
            )
        if fitting:
            shown = f" ({fitting[0]})" if fitting[0] not in ("iso", "s") else ""
            notes.append(
                f"time taken from {listed(columns)}{shown}; data.order_column can name another column"
            )
            order = columns[0] if len(columns) == 1 else columns
            return reading.model_copy(update={"order_column": order, "time_format": fitting[0]})
        falling += columns[:1] if formats and columns[0] in texts else []
    if falling and reading.features is None:
        raise UserError(
            f"{source.where}, column {falling[0]!r}: dates that do not rise from row to row",
            hint=f"Set data.order_column={falling[0]}, and data.episode_column if a file has several recordings; "
            "or take the rows as they come by naming data.features",
        )
    return reading


def resolve_order(
    engine: Engine, source: Source, kinds: Mapping[str, str], rows: Mapping[str, list[Any]], reading: Reading
) -> Reading:
    """Settles how the order column is written.

    Raises:
        UserError: If it cannot be told.
    """
    order = reading.order_column
    columns = [order] if isinstance(order, str) else list(order or ())
    if reading.time_format is not None:
        if "%" not in reading.time_format and reading.time_format not in (*UNITS, "iso"):
            raise UserError(
                f"data.time_format: {reading.time_format!r} is no format",
                hint="Give one as strptime takes it, e.g. '%d/%m/%Y %H:%M', or s, ms, us or ns since 1970",
            )
        return reading
    if len(columns) == 1 and source.columns[columns[0]][1].startswith(("TIMESTAMP", "DATE")):
        return reading
    formats = time_formats(source, columns, rows)
    if len(formats) > 1:
        formats = [f for f in formats if is_regular(np.sort(_times(engine, source, columns, f)))] or formats
    if len(formats) != 1:
        first = next((value for value in rows[columns[0]] if value is not None), None)
        ways = "in several ways" if formats else "neither as a number nor as a date"
        raise UserError(
            f"{source.where}, column {columns[0]!r}: {str(first)[:100]!r} can be read {ways}",
            hint="Set data.time_format, e.g. " + (" or ".join(map(repr, formats[:3])) or "'%d/%m/%Y %H:%M'"),
        )
    return reading.model_copy(update={"time_format": formats[0]})


def time_formats(source: Source, columns: Sequence[str], rows: Mapping[str, list[Any]]) -> list[str]:
    """Formats that fit all of the first rows: as a rule one, none if these are no times."""
    kinds = [source.columns[name][1] for name in columns]
    if len(columns) == 1 and kinds[0].startswith(("TIMESTAMP", "DATE")):
        return ["iso"]
    parts = [rows[name] for name in columns]
    joined = [
        " ".join(_plain(v) for v in values)
        for values in zip(*parts, strict=True)
        if None not in values and "" not in values
    ]
    if not joined:
        return []
    if len(columns) > 1 and all(re.fullmatch(r"\d{4}( \d{1,3})+", text) for text in joined):
        second = max(int(text.split()[1]) for text in joined)
        if len(columns) == 2 and second > 12:
            return ["%G %V" if second <= 53 else "%Y %j"]
        return [" ".join(("%Y", "%m", "%d", "%H", "%M", "%S")[: len(columns)])]
    if len(columns) == 1 and all(
        re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) for text in joined
    ):
        digits = DIGITS.get(len(joined[0]))
        return [digits] if digits and _formats(joined, [digits]) else [_unit(columns[0], joined)]
    if all(re.match(r"\d{4}-\d\d?-\d\d?([T ]|$)", text) for text in joined):
        zones = {re.search(ZONE, text[10:]) is not None for text in joined}
        if len(zones) > 1:
            raise UserError(
                f"{source.where}, column {columns[0]!r}: some times have a zone, others have none"
            )
        if _are_iso(joined):
            return ["iso"]
    return _formats(joined, FORMATS) or _formats(joined, CLOCKS)


def rises(times: npt.NDArray[Any]) -> bool:
    """Whether each row is later than the one before, or each is earlier."""
    steps = np.diff(times)
    return len(steps) > 0 and bool((steps > 0).all() or (steps < 0).all())


def is_regular(times: npt.NDArray[Any]) -> bool:
    """Whether at least half of the steps are alike."""
    steps = np.abs(np.diff(times).astype(np.float64))
    return len(steps) > 0 and bool(
        np.mean(np.abs(steps - np.median(steps)) <= SAME_STEP * np.median(steps)) >= 0.5
    )


def usual_step(spacings: Times) -> int | None:
    """The median of spacings, if at least half of them are near it; None if there is no such step.

    >>> usual_step(np.array([60, 60, 180])), usual_step(np.array([1, 7, 30]))
    (60, None)
    """
    if not len(spacings):
        return None
    step = float(np.median(spacings))
    return round(step) if np.mean(np.abs(spacings - step) <= JUMP * step) >= 0.5 else None


def constant_step(stretches: Iterable[Times]) -> float | None:
    """The time step in seconds of stretches without holes; None if rows do not follow each other evenly.

    Stamps that stray around an even clock are even; months and what drifts away from a clock are not.

    >>> constant_step([np.array([0, 33, 66, 100]) * 10**6]), constant_step([np.array([0, 31, 59, 90]) * 86400 * 10**9])
    (0.03333333, None)
    """
    total, steps, is_exact, is_even, is_same = 0.0, 0, True, True, True
    for times in stretches:
        spacings = np.diff(times).astype(np.float64)
        if not len(spacings):
            continue
        mean = spacings.mean()
        total, steps = total + spacings.sum(), steps + len(spacings)
        is_exact &= bool((np.abs(spacings - mean) <= SAME_STEP * mean).all())
        is_same &= bool((spacings == spacings[0]).all())
        for start in range(0, len(spacings), 1000):
            clock = np.cumsum(spacings[start : start + 1000])
            strays = clock - np.linspace(clock[-1] / len(clock), clock[-1], len(clock))
            is_even &= bool((np.abs(strays) < JUMP * mean).all())
    step = total / max(steps, 1) / 1e9
    if not steps or not (is_exact or is_even) or (step > MONTH_S and not is_same):
        return None
    rounded = float(f"{step:.2g}")
    return rounded if not is_exact and abs(rounded - step) < 0.01 * step else float(f"{step:.7g}")


def resample(times: Times, rows: npt.NDArray[Any], reading: Reading) -> tuple[Times, npt.NDArray[np.float32]]:
    """Rows at even times: the mean or the last of what came within each step, or on the line between neighbors.

    Steps without a row are filled up to ``missing_limit`` of them, and left out where there are more.

    Args:
        times: In nanoseconds, rising. Shape (T,).
        rows: NaN where missing. Shape (T, C).
        reading: The step and the way.

    Raises:
        UserError: If there would be many more rows than there were.
    """
    step, how, limit = max(1, round((reading.resample_s or 0) * 1e9)), reading.resample, reading.missing_limit
    first = -(-int(times[0]) // step) * step if how == "linear" else int(times[0]) // step * step
    count = (int(times[-1]) - first) // step + 1
    if count > 100 * len(times) + 10_000:
        raise UserError(
            f"data.resample_s: {count:,} rows would be made of {len(times):,}", hint="Give a longer step"
        )
    grid = first + step * np.arange(count)
    found = np.full((count, rows.shape[1]), np.nan, np.float32)
    for column, out in zip(rows.T, found.T, strict=True):
        t, values = times[~np.isnan(column)], column[~np.isnan(column)].astype(np.float64)
        if not len(t):
            continue
        if how == "linear":
            out[:] = np.interp(grid, t, values, left=np.nan, right=np.nan)
            after = np.clip(np.searchsorted(t, grid), 0, len(t) - 1)
            out[(t[after] != grid) & (t[after] - t[np.maximum(after - 1, 0)] > (limit + 1) * step)] = np.nan
            continue
        place = (t - first) // step
        if how == "last":
            out[place] = values  # of several, the last stays
        else:
            counts = np.bincount(place, minlength=count)
            out[counts > 0] = np.bincount(place, values, count)[counts > 0] / counts[counts > 0]
    empty: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isnan(found), axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], empty, [False]]).astype(np.int8))).reshape(-1, 2)
    for a, b in edges:
        if b - a <= limit and a > 0 and b < count:
            weight = 0 if how == "last" else np.arange(1, b - a + 1)[:, None] / (b - a + 1)
            found[a:b] = found[a - 1] + weight * (found[b] - found[a - 1]) if how != "last" else found[a - 1]
            empty[a:b] = False
    return grid[~empty], found[~empty]


def times_after(times: Times, count: int, dt_s: float | None) -> Times:
    """Times of the rows that follow: by the time step, by months where rows are months apart, else by the usual step.

    >>> months = np.array(["2024-11-01", "2024-12-01", "2025-01-01"], "M8[ns]").astype(np.int64)
    >>> times_after(months, 2, None).astype("M8[ns]").astype("M8[D]").tolist()
    [datetime.date(2025, 2, 1), datetime.date(2025, 3, 1)]
    """
    ahead = np.arange(1, count + 1)
    recent = times[-1000:]
    spacings = np.diff(recent)
    usual = int(np.median(spacings)) if len(spacings) else 10**9
    if dt_s is None and usual > MONTH_S * 10**9:
        months = recent.astype("M8[ns]").astype("M8[M]")
        within = recent - months.astype("M8[ns]").astype(np.int64)
        if (within == within[-1]).all():
            by = int(np.median(np.diff(months.astype(np.int64))))
            later: Times = (months[-1] + by * ahead).astype("M8[ns]").astype(np.int64) + within[-1]
            return later
    following: Times = times[-1] + np.round((usual if dt_s is None else dt_s * 1e9) * ahead).astype(np.int64)
    return following


def _times(engine: Engine, source: Source, columns: Sequence[str], time_format: str) -> Times:
    sql = time_sql(source, columns, time_format)
    found = engine.rows(f"SELECT {sql} FROM {source.relation} LIMIT 20000", source.where)
    return np.array([row[0] for row in found if row[0] is not None], np.int64)


def _formats(values: Sequence[Any], formats: Sequence[str]) -> list[str]:
    """Formats that fit all values."""
    texts = list(dict.fromkeys(str(value).strip() for value in values if value not in (None, "")))
    if not texts or len(texts[0]) > LONGEST or not re.search(r"\d", texts[0]):
        return []
    chosen = texts[:100] + texts[100 :: max(1, len(texts) // 300)]
    for text in chosen:
        formats = [f for f in formats if _fits(text, f)]
    return list(formats)


def _fits(text: str, time_format: str) -> bool:
    try:
        datetime.strptime(text, time_format)
    except ValueError:
        return False
    return True


def _are_iso(texts: Sequence[str]) -> bool:
    try:
        [datetime.fromisoformat(text) for text in texts[:100]]
    except ValueError:
        return False
    return True


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _unit(name: str, texts: Sequence[str]) -> str:
    """The unit of numbers, by their size: since 1970, these are times between 1979 and 2100."""
    largest = max(abs(float(text)) for text in texts)
    if re.search(r"(?i)year|yr|jahr", name) and 1000 < largest < 2300:
        return "%Y"
    return next((unit for unit, scale in UNITS.items() if FIRST_DATE_NS <= largest * scale < 4.2e18), "s")


def _is_time_by_size(name: str, values: Sequence[Any], names: Sequence[str]) -> bool:
    """Whether numbers look like times since 1970, like years, or in an unnamed first column like seconds."""
    numbers = np.array(
        [float(t) for t in map(str, values) if re.fullmatch(r"[+-]?\d+\.?\d*([eE][+-]?\d+)?", t)]
    )
    if len(numbers) < max(3, len(values)) or not rises(numbers):
        return False
    is_unnamed = name in ("", "column_0") and name == names[0] and not (np.diff(numbers) == 1).all()
    is_late = bool(numbers.min() * 1e9 > FIRST_DATE_NS) or re.fullmatch(r"(?i)year|yr|jahr", name) is not None
    return is_regular(numbers) and (is_unnamed or is_late)
