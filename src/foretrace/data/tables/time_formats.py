"""How times are written: dates and clocks as texts, seconds or days as numbers.

Times are whole nanoseconds: since 1970 where the columns hold dates, else since the column's own zero.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from foretrace.data.tables.dialect import NUMBER
from foretrace.data.tables.engine import Table, literal
from foretrace.errors import UserError

Texts = Mapping[str, Sequence[str | None]]

DAY = 86_400 * 10**9
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1, "min": 60 * 10**9, "h": 3_600 * 10**9, "d": DAY}
EPOCH_UNITS = ("s", "ms", "us", "ns")  # in which times since 1970 are written
# Dates as one number: nanoseconds of one, the number of 1970-01-01, and between which numbers a date is one.
DATE_NUMBERS = {
    "excel": (DAY, 25_569, (20_000, 80_000)),
    "matlab": (DAY, 719_529, (690_000, 780_000)),
    "julian": (DAY, 2_440_587.5, (2_400_000, 2_500_000)),
    "decimal_year": (31_556_952 * 10**9, 1970, (1_000, 2_300)),
}
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y%m%d",
        "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d %b %Y", "%d %B %Y",
        "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%a %d %b %Y", "%a, %d %b %Y", "%d%b%Y", "%Y %m %d")  # fmt: skip
MONTHS = (
    "%Y-%m",
    "%Y/%m",
    "%m/%Y",
    "%m-%Y",
    "%b-%y",
    "%b %Y",
    "%b-%Y",
    "%B %Y",
    "%Y-%b",
    "%YM%m",
    "%Y %m",
    "%Y %b",
    "%Y %B",
)
CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H:%M:%S,%f", "%H.%M.%S", "%H.%M", "%I:%M:%S %p", "%I:%M %p",
          "%H%M", "%H%M%S", "%H", "%H:%M:%S%z", "%H:%M:%S %z", "%H:%M%z", "%H%M%SZ", "%H%M%S%z", "%H:%M:%S UTC",
          "%H:%M:%S GMT", "%H:%M UTC", "%M:%S.%f")  # fmt: skip
DATES = (*DAYS, *MONTHS)
FORMATS = (
    *DATES,
    *(f"{day}{between}{clock}" for day, between, clock in product(DAYS, (" ", "T", ", ", ":"), CLOCKS)),
    "%a %b %d %H:%M:%S %Y",
)
DAYS_OF_YEAR = ("%Y-%j", "%Y %j", "%Y/%j", "%Y%j")  # which fit months as well, so they are tried last
END_OF_DAY = r"\b24([:.]?(00[:.]?)*)$"  # 24:00 is 00:00 of the next day
DIGITS = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
LONGEST = 40  # characters of a time
UNIT_NAME = re.compile(r"(?i)(?<![a-z])(?:(s|secs?|seconds?)|(ms|msecs?|milliseconds?|millis)|"
                       r"(us|µs|microseconds?|micros)|(ns|nsecs?|nanosecs?|nanoseconds?|nanos)|"
                       r"(mins?|minutes?)|(h|hrs?|hours?)|(d|days?))(?![a-z])")  # fmt: skip
DATE_NAME = re.compile("(?i)date|datum|year|jd|julian")
YEAR_NAME = re.compile("(?i)year|yr|jahr")
PARTS = {"%Y": "year|yr|yyyy|jahr", "%m": "month|mon?|mm|monat", "%d": "day|dy|dd|tag", "%H": "hour|hr|hh|stunde",
         "%M": "minute|min|mi", "%S": "second|sec|ss"}  # fmt: skip
DAY_OF_YEAR_NAME = "doy|dayofyear|day_of_year|yday|jday|yearday"
MISFITS = 50  # one of so many texts may be no time: footers, notes
ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)\s*$")
# Mid-1979 and 2103: numbers since 1970 lie between them, seconds since a recording's start below.
FIRST_DATE_NS, LAST_DATE_NS = 3 * 10**17, 4.2e18


def time_sql(table: Table, columns: Sequence[str], time_format: str | None, decimal: str | None) -> str:
    """Return SQL of the time in nanoseconds; NULL where it cannot be read."""
    expression, kind = table.columns[columns[0]]
    if len(columns) == 1 and kind.startswith(("TIMESTAMP", "DATE")):
        return f"epoch_ns({expression})"
    if len(columns) > 1 and time_format in UNITS:  # seconds and nanoseconds, as ROS writes them
        parts = zip(columns, ("s", "ns"), strict=True)
        return " + ".join(time_sql(table, [name], each, decimal) for name, each in parts)
    number = (
        f"replace({expression}, {literal(decimal)}, '.')" if decimal and kind == "VARCHAR" else expression
    )
    number = f"TRY_CAST({number} AS DECIMAL(28, 9))"  # which keeps all of 19 digits
    if time_format in UNITS:
        return f"TRY_CAST({number} * {UNITS[time_format]} AS BIGINT)"
    if time_format in DATE_NUMBERS:
        scale, zero, _ = DATE_NUMBERS[time_format]
        return f"TRY_CAST(round(({number} - {zero}) * {scale // 10**6}) * 1000000 AS BIGINT)"
    text = " || ' ' || ".join(f"({table.text(name)})" for name in columns)
    if time_format == "iso":
        with_zone = f"replace(replace({text}, ' +', '+'), ' -', '-')"
        return f"epoch_ns(TRY_CAST({with_zone} AS TIMESTAMPTZ))"
    shape, next_day = literal(str(time_format)), f"regexp_replace({text}, '{END_OF_DAY}', '00\\1')"
    time = f"coalesce(try_strptime({text}, {shape}), try_strptime({next_day}, {shape}) + INTERVAL 1 DAY)"
    return f"epoch_ns(TRY_CAST({time} AS TIMESTAMPTZ))"


def formats_of(table: Table, columns: Sequence[str], texts: Texts) -> list[str]:
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
        return [digits] if digits and fitting(joined, [digits]) else _unit(columns[0], joined)
    iso = [text for text in joined if re.match(r"\d{4}-\d\d?-\d\d?([T ]\d\d?:[^,]*$|$)", text)]
    if len(joined) - len(iso) <= len(joined) // MISFITS:
        if len({ZONE.search(text[10:]) is None for text in iso}) > 1:
            raise UserError(f"{table.where}, column {columns[0]!r}: some times have a zone, others have none")
        if _are(iso[:100], datetime.fromisoformat):
            return ["iso"]
    return fitting(joined, FORMATS) or fitting(joined, CLOCKS) or fitting(joined, DAYS_OF_YEAR)


def fitting(values: Sequence[str | None], formats: Sequence[str]) -> list[str]:
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
    for pattern, sign in (
        ("%z", "±"),
        ("%[abBp]", "A"),
        ("%[a-zA-Z]", "0"),
        (r"[^\W\d_]+", "A"),
        (r"\d+", "0"),
    ):
        text = re.sub(pattern, sign, text)
    return re.sub(r"\s+", " ", text)


def _fits(text: str, time_format: str) -> bool:
    ways = {text, re.sub(END_OF_DAY, r"00\1", text)}
    return any(_are([each], lambda way: datetime.strptime(way, time_format)) for each in ways)


def _are(texts: Sequence[str], parse: Any) -> bool:
    try:
        return all(map(parse, texts))
    except ValueError:
        return False


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


def unit_of(name: str) -> str:
    """Return the unit of time that a column's name ends with or has in brackets; empty if there is none.

    >>> unit_of("Zeit [ms]"), unit_of("t_ns"), unit_of("level")
    ('ms', 'ns', '')
    """
    found = list(UNIT_NAME.finditer(name))
    return list(UNITS)[(found[-1].lastindex or 1) - 1] if found else ""
