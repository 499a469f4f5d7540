"""The time of rows: which columns give it, and how it is written.

Times are whole nanoseconds: since 1970 where the columns hold dates, else since the column's own zero.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import NUMBER
from foretrace.data.tables.engine import Engine, Table, listed, literal
from foretrace.data.tables.episodes import BLOCK, Stretch
from foretrace.data.tables.steps import JUMP, Times, constant_step, is_regular
from foretrace.errors import UserError

Texts = Mapping[str, Sequence[str | None]]

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
DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
LONGEST = 40  # characters of a time
TIME_NAME = re.compile(
    r"(?i)(^|[^a-z])(t|ts|time|times|timestamps?|stamp|datetime|date|secs?|seconds?|epoch|clock)([^a-z]|$)"
)
YEAR_NAME, HOUR_NAME = re.compile("(?i)year|yr|jahr"), re.compile("(?i)hour|hr|time|hhmm|hh")
PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
FIRST_DATE_NS = (
    3 * 10**17
)  # mid-1979: numbers since 1970 are above it, seconds since a recording's start below
LAST_DATE_NS = 4.2e18


def time_sql(table: Table, columns: Sequence[str], time_format: str | None) -> str:
    """SQL of the time in nanoseconds; NULL where it cannot be read."""
    expression, kind = table.columns[columns[0]]
    if len(columns) == 1 and kind.startswith(("TIMESTAMP", "DATE")):
        return f"epoch_ns({expression})"
    if len(columns) == 1 and time_format in UNITS:  # decimals keep all of 19 digits
        return f"TRY_CAST(TRY_CAST({expression} AS DECIMAL(28, 9)) * {UNITS[time_format]} AS BIGINT)"
    text = " || ' ' || ".join(f"({table.text(name)})" for name in columns)
    if time_format != "iso":
        text = f"try_strptime({text}, {literal(str(time_format))})"
    return f"epoch_ns(TRY_CAST({text} AS TIMESTAMPTZ))"


def order_columns(reading: Reading) -> list[str]:
    """The columns that give the time, of which there may be none."""
    order = reading.order_column
    return [order] if isinstance(order, str) else list(order or ())


def find_time(
    engine: Engine, table: Table, kinds: Mapping[str, str], texts: Texts, reading: Reading, notes: list[str]
) -> Reading:
    """Settle which columns give the time, and how it is written.

    Args:
        engine: That reads the table.
        table: The first of the tables.
        kinds: Kind of each column.
        texts: Its first rows.
        reading: The settings.
        notes: What is said about a column that is taken for the time.

    Returns:
        The settings with the order column, if one is named or plainly is the time, and its format.

    Raises:
        UserError: If it cannot be told how the time is written.
    """
    named, given, backwards = order_columns(reading), reading.time_format, ""
    if given is not None and "%" not in given and given not in (*UNITS, "iso"):
        hint = "Give one as strptime takes it, e.g. '%d/%m/%Y %H:%M', or s, ms, us or ns since 1970"
        raise UserError(f"data.time_format: {given!r} is no format", hint=hint)
    if named and given is not None:
        return reading
    for columns in [named] if named else _candidates(kinds, texts, reading):
        formats = fitting = _formats_of(table, columns, texts)
        times = {each: _times(engine, table, columns, each) for each in formats}
        if not named:
            fitting = [each for each in formats if len(times[each]) > 2 and is_monotonic(times[each])]
        if len(fitting) > 1:
            fitting = [each for each in fitting if is_regular(np.sort(times[each]))] or fitting
        if len(fitting) > 1 or (named and not fitting):
            first = next((text for text in texts[columns[0]] if text is not None), None)
            ways = "in several ways" if fitting else "neither as a number nor as a date"
            raise UserError(
                f"{table.where}, column {columns[0]!r}: {str(first)[:100]!r} can be read {ways}",
                hint=f"Set {as_setting(columns)} and data.time_format, e.g. "
                + (" or ".join(map(repr, fitting[:3])) or "'%d/%m/%Y %H:%M'"),
            )
        if fitting:
            order = columns[0] if len(columns) == 1 else columns
            if not named:
                shown = f" ({fitting[0]})" if fitting[0] not in ("iso", "s") else ""
                notes.append(
                    f"time taken from {listed(columns)}{shown}; data.order_column can name another column"
                )
            return reading.model_copy(update={"order_column": order, "time_format": fitting[0]})
        if formats and kinds[columns[0]] in ("time", "text"):
            backwards = backwards or columns[0]
    if backwards and reading.features is None:
        raise UserError(
            f"{table.where}, column {backwards!r}: dates that do not rise from row to row",
            hint=f"Set {as_setting([backwards])}, and data.episode_column if a file has several recordings; "
            "or take the rows as they come by naming data.features",
        )
    return reading


def as_setting(columns: Sequence[str]) -> str:
    """The setting that names columns as the time, as one would type it."""
    words = [f"'{name}'" if re.search(r"[^\w.]", name) else name for name in columns]
    return f"data.order_column={words[0] if len(words) == 1 else '[' + ','.join(words) + ']'}"


def time_facts(
    stretches: Sequence[Stretch],
    pieces: Sequence[Stretch],
    times: Times | None,
    reading: Reading,
    notes: Mapping[str, int],
    warnings: list[str],
) -> dict[str, Any]:
    """The time step, its spread, and whether the time has dates; adds to the warnings what is doubtful.

    Args:
        stretches: Whole recordings.
        pieces: What they were cut into.
        times: Time of each row; None if no column gives it.
        reading: The settings, with the order column and its format.
        notes: Has the number of gaps.
        warnings: What a person should know before training.

    Raises:
        UserError: If something is asked for that the time does not give.
    """
    facts = {"has_times": False, "has_dates": False, "dt_s": reading.dt_s}
    if times is None:
        if reading.elapsed or reading.calendar or reading.resample_s:
            raise UserError("data.order_column: needed for data.elapsed, data.calendar and data.resample_s")
        return facts
    order, time_format = order_columns(reading), str(reading.time_format)
    is_number = time_format in UNITS and len(order) == 1
    is_clock = "%" in time_format and not re.search("%[djyYG]", time_format)
    has_dates = not is_clock and (not is_number or int(times[0]) > FIRST_DATE_NS)
    if reading.calendar and not has_dates:
        hint = "Set data.time_format if it counts since 1970"
        raise UserError("data.calendar: the time has no dates", hint=hint)
    spacings = [np.diff(times[p.first : min(p.end, p.first + BLOCK)]) for p in pieces[:1000]]
    apart = np.concatenate(spacings) / 1e9
    if is_number and not has_dates and (apart == 1).all() and not TIME_NAME.search(order[0]):
        return facts  # it only counts rows
    usual, given = next((s.step / 1e9 for s in stretches if s.step), None), reading.dt_s
    if given and usual and abs(usual - given) > JUMP * given:
        raise UserError(f"data.dt_s: {given:g}, but rows are {usual:g} s apart", hint="Leave it out")
    if usual is None and not reading.elapsed and not reading.resample_s:
        irregular = f"irregular time steps ({apart.min():.4g} to {apart.max():.4g} s)"
        warnings.append(f"{irregular}: data.elapsed=true tells the model, data.resample_s makes them even")
    if gaps := notes["gaps in time"]:
        cuts = f"{len(stretches):,} recording(s) were cut into {len(pieces):,} pieces"
        warnings.append(f"gaps in time: {gaps:,}, at which {cuts}; data.gaps=keep spans them")
    spread = {"median": float(np.median(apart)), "min": float(apart.min()), "max": float(apart.max())}
    step = given or constant_step([times[p.first : p.end] for p in pieces])
    return {"has_times": True, "has_dates": has_dates, "dt_s": step, "steps": spread}


def is_monotonic(values: npt.NDArray[Any]) -> bool:
    """Whether each row is later than the one before, or each is earlier."""
    before, after = values[:-1], values[1:]
    return len(after) > 0 and bool((after > before).all() or (after < before).all())


def _candidates(kinds: Mapping[str, str], texts: Texts, reading: Reading) -> Iterator[list[str]]:
    """Columns that may give the time, alone or together, the likeliest first."""
    taken = {reading.episode_column, *reading.covariates, *(reading.features or ())}
    free = {name: kind for name, kind in kinds.items() if name not in taken}
    parts = [next((name for name in free if name.lower() == part), "") for part in PARTS]
    parts = parts[: parts.index("")] if "" in parts else parts
    if len(parts) > 1:
        yield parts
    words = [name for name, kind in free.items() if kind in ("time", "text")]
    clocks = [n for n in words if _fitting(texts[n], CLOCKS) and not _fitting(texts[n], DATES)]
    numbers = [name for name, kind in free.items() if kind == "number"]
    dates = [name for name in words if name not in clocks]
    hours = [name for name in numbers if HOUR_NAME.fullmatch(name)]
    yield from ([date, clock] for date, clock in product(dates, [*clocks, *hours]))
    yield from ([name] for name in dates)
    yield from (
        [n] for n in numbers if TIME_NAME.search(n) or _is_time_by_size(n, texts[n], next(iter(free)))
    )
    yield from ([name] for name in clocks)


def _formats_of(table: Table, columns: Sequence[str], texts: Texts) -> list[str]:
    """Formats that fit all of the first rows: as a rule one, none if these are no times."""
    if len(columns) == 1 and table.columns[columns[0]][1].startswith(("TIMESTAMP", "DATE")):
        return ["iso"]
    rows = zip(*(texts[name] for name in columns), strict=True)
    joined = [" ".join(str(text) for text in row) for row in rows if None not in row]
    if not joined:
        return []
    if len(columns) > 1 and all(re.fullmatch(r"\d{4}( \d{1,3})+", text) for text in joined):
        second = max(int(text.split()[1]) for text in joined)
        if len(columns) == 2 and second > 12:
            return ["%G %V" if second <= 53 else "%Y %j"]
        return [" ".join(list(PARTS.values())[: len(columns)])]
    if len(columns) == 1 and all(NUMBER.fullmatch(text) for text in joined):
        digits = DIGITS.get(len(joined[0]), "")
        return [digits] if digits and _fitting(joined, [digits]) else _unit(columns[0], joined)
    if all(re.match(r"\d{4}-\d\d?-\d\d?([T ]|$)", text) for text in joined):
        if len({re.search(r"(Z|[+-]\d\d:?\d\d)\s*$", text[10:]) is None for text in joined}) > 1:
            raise UserError(f"{table.where}, column {columns[0]!r}: some times have a zone, others have none")
        if _are(joined[:100], datetime.fromisoformat):
            return ["iso"]
    return _fitting(joined, FORMATS) or _fitting(joined, CLOCKS)


def _times(engine: Engine, table: Table, columns: Sequence[str], time_format: str) -> Times:
    sql = time_sql(table, columns, time_format)
    found = engine.rows(f"SELECT {sql} FROM {table.relation} LIMIT 20000", table.where)
    return np.array([row[0] for row in found if row[0] is not None], np.int64)


def _fitting(values: Sequence[str | None], formats: Sequence[str]) -> list[str]:
    """Formats that fit all values."""
    texts = list(dict.fromkeys(text for text in values if text))
    if not texts or len(texts[0]) > LONGEST or not re.search(r"\d", texts[0]):
        return []
    for text in texts[:100] + texts[100 :: max(1, len(texts) // 300)]:
        formats = [f for f in formats if _are([text], lambda t, f=f: datetime.strptime(t, f))]
    return list(formats)


def _are(texts: Sequence[str], parse: Any) -> bool:
    try:
        return all(map(parse, texts))
    except ValueError:
        return False


def _unit(name: str, texts: Sequence[str]) -> list[str]:
    """The unit of numbers, by their size: since 1970, these are times between 1979 and 2100."""
    if not np.isfinite([float(text) for text in texts]).all():
        return []
    largest = max(abs(float(text)) for text in texts)
    if YEAR_NAME.search(name) and 1000 < largest < 2300:
        return ["%Y"]
    return [next((u for u, scale in UNITS.items() if FIRST_DATE_NS <= largest * scale < LAST_DATE_NS), "s")]


def _is_time_by_size(name: str, texts: Sequence[str | None], first: str) -> bool:
    """Whether numbers look like times since 1970, like years, or in an unnamed first column like seconds."""
    numbers = np.array([float(text) for text in texts if text and NUMBER.fullmatch(text)])
    if len(numbers) < max(3, len(texts)) or not np.isfinite(numbers).all() or not is_monotonic(numbers):
        return False
    is_unnamed = name in ("", "column_0") and name == first and not (np.diff(numbers) == 1).all()
    is_late = bool(numbers.min() * 1e9 > FIRST_DATE_NS) or YEAR_NAME.fullmatch(name) is not None
    return is_regular(numbers) and (is_unnamed or is_late)
