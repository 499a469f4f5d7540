"""The time of rows: which columns give it, and how it is written.

Times are whole nanoseconds: since 1970 where the columns hold dates, else since the column's own zero.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from itertools import pairwise, product, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import NUMBER
from foretrace.data.tables.engine import DATE_NUMBERS, END_OF_DAY, UNITS, Engine, Table, listed
from foretrace.data.tables.steps import Times, regularity
from foretrace.errors import UserError

Texts = Mapping[str, Sequence[str | None]]

EPOCH_UNITS = ("s", "ms", "us", "ns")  # in which times since 1970 are written
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y%m%d",
        "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d %b %Y", "%d %B %Y",
        "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%a %d %b %Y", "%a, %d %b %Y", "%d%b%Y", "%Y %m %d")  # fmt: skip
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b-%y", "%b %Y", "%b-%Y", "%B %Y", "%Y-%b", "%YM%m", "%Y %m", "%Y %b",
          "%Y %B")  # fmt: skip
CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H:%M:%S,%f", "%H.%M.%S", "%H.%M", "%I:%M:%S %p", "%I:%M %p",
          "%H%M", "%H%M%S", "%H", "%H:%M:%S%z", "%H:%M:%S %z", "%H:%M%z", "%H%M%SZ", "%H%M%S%z", "%H:%M:%S UTC",
          "%H:%M:%S GMT", "%H:%M UTC", "%M:%S.%f")  # fmt: skip
DATES = (*DAYS, *MONTHS)
FORMATS = (*DATES, *map("".join, product(DAYS, (" ", "T", ", ", ":"), CLOCKS)), "%a %b %d %H:%M:%S %Y")
DAYS_OF_YEAR = ("%Y-%j", "%Y %j", "%Y/%j", "%Y%j")  # which fit months as well, so they are tried last
DIGITS = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
ISO = re.compile(r"\d{4}-\d\d?-\d\d?([T ]\d\d?:[^,]*$|$)")
ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)\s*$")
SHAPES = (
    ("%z", "±"),
    ("%[abBp]", "A"),
    ("%[a-zA-Z]", "0"),
    (r"[^\W\d_]+", "A"),
    (r"\d+", "0"),
    (r"\s+", " "),
)
LONGEST = 40  # characters of a time
MISFITS = 50  # one of so many texts may be no time: footers, notes
# Mid-1979 and 2103: numbers since 1970 lie between them, seconds since a recording's start below.
FIRST_DATE_NS, LAST_DATE_NS = 3 * 10**17, 4.2e18
ENOUGH = 31  # steps: the first days of a year are as even as its months, 01/02 as 02/01
MOST_LABELS = 1000  # recordings, or features, in a file that has them below each other

TIME_NAME = re.compile(
    r"(?i)(^|[^a-z])(t|ts|time|times|timestamps?|stamp|datetime|date|datenum|jd|secs?|seconds?|epoch|clock)([^a-z]|$)"
)
UNIT_NAME = re.compile(r"(?i)(?<![a-z])(?:(s|secs?|seconds?)|(ms|msecs?|milliseconds?|millis)|"
                       r"(us|µs|microseconds?|micros)|(ns|nsecs?|nanosecs?|nanoseconds?|nanos)|"
                       r"(mins?|minutes?)|(h|hrs?|hours?)|(d|days?))(?![a-z])")  # fmt: skip
DATE_NAME = re.compile("(?i)date|datum|year|jd|julian")
YEAR_NAME = re.compile("(?i)year|yr|jahr")
HOUR_NAME = re.compile("(?i)hour|hr|time|hhmm|hh")
DAY_OF_YEAR_NAME = "doy|dayofyear|day_of_year|yday|jday|yearday"
PARTS = {"%Y": "year|yr|yyyy|jahr", "%m": "month|mon?|mm|monat", "%d": "day|dy|dd|tag", "%H": "hour|hr|hh|stunde",
         "%M": "minute|min|mi", "%S": "second|sec|ss"}  # fmt: skip


def find_time(
    engine: Engine, table: Table, kinds: Mapping[str, str], texts: Texts, reading: Reading, notes: list[str]
) -> Reading:
    """Settle which columns of the first table give the time, and how it is written.

    Returns:
        The settings with the order column, if one is named or plainly is the time, and its format. Such a column is
        told in ``notes``.

    Raises:
        UserError: If it cannot be told how the time is written.
    """
    named, given = reading.order, reading.time_format
    if given is not None and "%" not in given and given not in (*UNITS, *DATE_NUMBERS, "iso"):
        units = ", ".join((*UNITS, *DATE_NUMBERS))
        hint = f"Give one as strptime takes it, e.g. '%d/%m/%Y %H:%M', or what the number counts: {units}"
        raise UserError(f"data.time_format: {given!r} is no format", hint=hint)
    if named and given is not None:
        return reading
    columns, times, backwards = named, dict[str, Times](), ""
    for candidate in [named] if named else _candidates(kinds, texts, reading):
        formats = _formats(table, candidate, texts)
        ways = {each: _times(engine, table, candidate, each, reading) for each in formats}
        rising = {each: t for each, t in ways.items() if named or is_monotonic(t)}
        if rising or named:
            columns, times = candidate, rising
            break
        if kinds[candidate[0]] in ("time", "text") and ways:
            nearly = {each: t for each, t in ways.items() if is_monotonic(t, most_equal=0.1)}
            columns, times = (columns, times) if times or not nearly else (candidate, nearly)
            backwards = backwards or candidate[0]
    if columns:
        time_format = _most_even(table, columns, times, texts)
        if not named:
            shown = f" ({time_format})" if time_format not in ("iso", "s") else ""
            notes.append(
                f"time taken from {listed(columns)}{shown}; data.order_column can name another column"
            )
        order = columns[0] if len(columns) == 1 else columns
        return reading.model_copy(update={"order_column": order, "time_format": time_format})
    if backwards and reading.features is None and len(texts[backwards]) > 2:
        raise UserError(
            f"{table.where}, column {backwards!r}: dates that do not rise from row to row",
            hint=f"Set {as_setting([backwards])}, and {episode_hint([backwards], texts)}; "
            "or take the rows as they come by naming data.features",
        )
    return reading


def unit_of(name: str) -> str:
    """Return the unit of time that a column's name ends with or has in brackets; empty if there is none.

    >>> unit_of("Zeit [ms]"), unit_of("t_ns"), unit_of("level")
    ('ms', 'ns', '')
    """
    found = list(UNIT_NAME.finditer(name))
    return list(UNITS)[(found[-1].lastindex or 1) - 1] if found else ""


def find_label(columns: Sequence[str], texts: Texts) -> str | None:
    """Return the column that tells rows of the same time apart, if there is one with few values."""
    rows = list(zip(*(texts[name] for name in columns), strict=True))
    for name in (name for name in texts if name not in columns):
        has_few = len({*texts[name]}) <= min(MOST_LABELS, len(rows) // 3)
        if has_few and len({*zip(rows, texts[name], strict=True)}) == len(rows) > len({*rows}):
            return name
    return None


def episode_hint(columns: Sequence[str], texts: Texts) -> str:
    """Say what to set where rows of several recordings, or of several features, have the same time."""
    if (label := find_label(columns, texts)) is None:
        return "data.episode_column if a file has several recordings"
    return (
        f"data.episode_column={label} if each of its values is a recording; if they name features, "
        f"make a column of each first, e.g. with pandas' table.pivot(columns={label!r}, …)"
    )


def as_setting(columns: Sequence[str]) -> str:
    """Return the setting that names columns as the time, as one would type it."""
    words = [f"'{name}'" if re.search(r"[^\w.]|^$", name) else name for name in columns]
    return f"data.order_column={words[0] if len(words) == 1 else '[' + ','.join(words) + ']'}"


def is_monotonic(values: npt.NDArray[Any], *, most_equal: float = 0.0) -> bool:
    """Whether of at least 3 rows each is later than the one before, or each is earlier; a share may be equal."""
    before, after = values[:-1], values[1:]
    if len(after) < 2 or np.mean(after == before) > most_equal:
        return False
    return bool((after >= before).all() or (after <= before).all())


def _most_even(table: Table, columns: Sequence[str], times: Mapping[str, Times], texts: Texts) -> str:
    """Return the one format by which rows are the most even."""
    even = {each: regularity(np.sort(t)) for each, t in times.items()}
    is_sure = any(even[each] == 1 and len(t) > ENOUGH for each, t in times.items())
    fitting = [each for each, share in even.items() if share >= (1 if is_sure else 0.5)] or list(even)
    if len(fitting) != 1:
        first = next((text for text in texts[columns[0]] if text is not None), None)
        ways = "in several ways" if fitting else "neither as a number nor as a date"
        examples = " or ".join(map(repr, fitting[:3])) or "'%d/%m/%Y %H:%M'"
        raise UserError(
            f"{table.where}, column {columns[0]!r}: {str(first)[:100]!r} can be read {ways}",
            hint=f"Set {as_setting(columns)} and data.time_format, e.g. {examples}",
        )
    return fitting[0]


def _candidates(kinds: Mapping[str, str], texts: Texts, reading: Reading) -> Iterator[list[str]]:
    """Columns that may give the time, alone or together, the likeliest first."""
    taken = {reading.episode_column, *reading.covariates, *(reading.features or ())}
    free = {name: kind for name, kind in kinds.items() if name not in taken}
    year, month, day, *clock = PARTS.values()
    for wanted in ((year, month, day, *clock), (year, DAY_OF_YEAR_NAME, *clock)):
        named = (next((n for n in free if re.fullmatch(f"(?i){part}", n)), "") for part in wanted)
        if len(parts := list(takewhile(bool, named))) > 1:
            yield parts
    words = [name for name, kind in free.items() if kind in ("time", "text")]
    clocks = [n for n in words if _fitting(texts[n], CLOCKS) and not _fitting(texts[n], DATES)]
    numbers = [name for name, kind in free.items() if kind == "number"]
    dates = [name for name in words if name not in clocks]
    dates += [name for name in numbers if _fitting(texts[name], ["%Y%m%d", "%Y%m"])]
    yield from ([s, ns] for s, ns in pairwise(numbers) if (unit_of(s), unit_of(ns)) == ("s", "ns"))
    hours = [name for name in numbers if HOUR_NAME.fullmatch(name)]
    yield from ([date, clock] for date, clock in product(dates, [*clocks, *hours]))
    yield from ([name] for name in dates)
    yield from (
        [n] for n in numbers if TIME_NAME.search(n) or _is_time_by_size(n, texts[n], next(iter(free)))
    )
    yield from ([name] for name in clocks)


def _times(engine: Engine, table: Table, columns: Sequence[str], time_format: str, reading: Reading) -> Times:
    """Return the times of the first rows, of one episode."""
    episode = reading.episode_column
    label = "''" if episode is None else table.text(episode)
    time = table.time(columns, time_format, reading.decimal)
    found = engine.rows(f"SELECT {time}, {label} FROM {table.relation} LIMIT 20000", table.where)
    return np.array([t for t, name in found if t is not None and name == found[0][1]], np.int64)


def _is_time_by_size(name: str, texts: Sequence[str | None], first: str) -> bool:
    """Whether numbers look like times since 1970, like years, or in a first column without a name like seconds."""
    numbers = np.array([float(text) for text in texts if text and NUMBER.fullmatch(text)])
    if len(numbers) < max(3, len(texts)) or not np.isfinite(numbers).all() or not is_monotonic(numbers):
        return False
    may_be_time = name in ("", "column_0") or (re.search(r"[\[(]", name) and unit_of(name))
    is_first = bool(may_be_time) and name == first and not (np.diff(numbers) == 1).all()
    is_late = bool(numbers.min() * 1e9 > FIRST_DATE_NS) or YEAR_NAME.fullmatch(name) is not None
    return regularity(numbers) >= 0.5 and (is_first or is_late)


def _formats(table: Table, columns: Sequence[str], texts: Texts) -> list[str]:
    """Return formats that fit all of the first rows: as a rule one, none if these are no times."""
    if len(columns) == 1 and table.columns[columns[0]][1].startswith(("TIMESTAMP", "DATE")):
        return ["iso"]
    rows = zip(*(texts[name] for name in columns), strict=True)
    joined = [" ".join(str(text) for text in row) for row in rows if None not in row]
    if not joined:
        return []
    if len(columns) == 2 and (unit_of(columns[0]), unit_of(columns[1])) == ("s", "ns"):
        return ["s"]
    if len(columns) > 1 and all(re.fullmatch(r"\d{4}( \d{1,3})+", text) for text in joined):
        second = max(int(text.split()[1]) for text in joined)
        is_day = second > 53 or re.fullmatch(f"(?i){DAY_OF_YEAR_NAME}", columns[1]) is not None
        if is_day or second > 12:
            return [" ".join(["%Y %j" if is_day else "%G %V", "%H", "%M", "%S"][: len(columns) - 1])]
        return [" ".join(list(PARTS)[: len(columns)])]
    if len(columns) == 1 and all(NUMBER.fullmatch(text) for text in joined):
        digits = DIGITS.get(len(joined[0]), "")
        return [digits] if digits and _fitting(joined, [digits]) else _unit(columns[0], joined)
    iso = list(filter(ISO.match, joined))
    if len(joined) - len(iso) <= len(joined) // MISFITS:
        if len({ZONE.search(text[10:]) is None for text in iso}) > 1:
            raise UserError(f"{table.where}, column {columns[0]!r}: some times have a zone, others have none")
        if all(_fits(text, "iso") for text in iso[:100]):
            return ["iso"]
    return _fitting(joined, FORMATS) or _fitting(joined, CLOCKS) or _fitting(joined, DAYS_OF_YEAR)


def _fitting(values: Sequence[str | None], formats: Sequence[str]) -> list[str]:
    """Return formats that fit almost all values."""
    texts = list(dict.fromkeys(text for text in values if text))
    if not texts or len(texts[0]) > LONGEST or not re.search(r"\d", texts[0]):
        return []
    texts = texts[:100] + texts[100 :: max(1, len(texts) // 300)]
    likely: list[str] = []
    for text in texts[:3]:
        shapes = _shape(text), _shape(ZONE.sub("%z", text))
        likely = likely or [f for f in formats if _shape(f) in shapes and _fits(text, f)]
    return [f for f in likely if sum(not _fits(text, f) for text in texts) <= len(texts) // MISFITS]


@lru_cache(4096)
def _shape(text: str) -> str:
    """Write a time or a format with its numbers as 0 and its words as A: where these differ, it cannot fit.

    >>> _shape("03 Mar 2024, 1:05 PM"), _shape("%d %b %Y, %I:%M %p")
    ('0 A 0, 0:0 A', '0 A 0, 0:0 A')
    """
    for pattern, sign in SHAPES:
        text = re.sub(pattern, sign, text)
    return text


def _fits(text: str, time_format: str) -> bool:
    with suppress(ValueError):
        return bool(
            datetime.fromisoformat(text) if time_format == "iso" else datetime.strptime(text, time_format)
        )
    day_before = re.sub(END_OF_DAY, r"00\1", text)
    return day_before != text and time_format != "iso" and _fits(day_before, time_format)


def _unit(name: str, texts: Sequence[str]) -> list[str]:
    """Return what numbers count, by their size and name: since 1970, they are between 1979 and 2103."""
    numbers = np.array([float(text) for text in texts])
    if not np.isfinite(numbers).all():
        return []
    largest = float(np.abs(numbers).max())
    if YEAR_NAME.search(name) and 1000 < largest < 2300 and not (numbers % 1).any():
        return ["%Y"]
    by_size = [unit for unit in EPOCH_UNITS if FIRST_DATE_NS <= largest * UNITS[unit] < LAST_DATE_NS]
    dates = [each for each, (*_, (low, high)) in DATE_NUMBERS.items() if low <= largest < high]
    return [*by_size, *(dates if DATE_NAME.search(name) else []), unit_of(name) or "s"][:1]
