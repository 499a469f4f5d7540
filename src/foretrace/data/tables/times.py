"""The time of rows: which columns give it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import NUMBER
from foretrace.data.tables.engine import Engine, Table, listed
from foretrace.data.tables.steps import Times, regularity
from foretrace.data.tables.time_formats import (
    CLOCKS,
    DATE_NUMBERS,
    DATES,
    DAY_OF_YEAR_NAME,
    FIRST_DATE_NS,
    PARTS,
    UNITS,
    YEAR_NAME,
    Texts,
    fitting,
    formats_of,
    time_sql,
    unit_of,
)
from foretrace.errors import UserError

TIME_NAME = re.compile(
    r"(?i)(^|[^a-z])(t|ts|time|times|timestamps?|stamp|datetime|date|datenum|jd|secs?|seconds?|epoch|clock)([^a-z]|$)"
)
HOUR_NAME = re.compile("(?i)hour|hr|time|hhmm|hh")
MOST_LABELS = 1000  # recordings, or features, in a file that has them below each other
ENOUGH = 31  # steps: the first days of a year are as even as its months, 01/02 as 02/01


def order_columns(reading: Reading) -> list[str]:
    """Return the columns that give the time, of which there may be none."""
    order = reading.order_column
    return [order] if isinstance(order, str) else list(order or ())


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
    named, given = order_columns(reading), reading.time_format
    if given is not None and "%" not in given and given not in (*UNITS, *DATE_NUMBERS, "iso"):
        units = ", ".join((*UNITS, *DATE_NUMBERS))
        hint = f"Give one as strptime takes it, e.g. '%d/%m/%Y %H:%M', or what the number counts: {units}"
        raise UserError(f"data.time_format: {given!r} is no format", hint=hint)
    if named and given is not None:
        return reading
    repeated: tuple[list[str], dict[str, Times]] | None = None
    backwards = ""
    for columns in [named] if named else _candidates(kinds, texts, reading):
        formats = formats_of(table, columns, texts)
        times = {each: _times(engine, table, columns, each, reading) for each in formats}
        rising = times if named else {each: t for each, t in times.items() if is_monotonic(t)}
        if named or rising:
            return _settled(table, columns, rising, texts, reading, notes)
        if kinds[columns[0]] in ("time", "text") and times:
            nearly = {each: t for each, t in times.items() if is_monotonic(t, most_equal=0.1)}
            repeated = repeated or ((columns, nearly) if nearly else None)
            backwards = backwards or columns[0]
    if repeated is not None:
        return _settled(table, *repeated, texts, reading, notes)
    if backwards and reading.features is None and len(texts[backwards]) > 2:
        raise UserError(
            f"{table.where}, column {backwards!r}: dates that do not rise from row to row",
            hint=f"Set {as_setting([backwards])}, and {episode_hint(find_label([backwards], texts))}; "
            "or take the rows as they come by naming data.features",
        )
    return reading


def find_label(columns: Sequence[str], texts: Texts) -> str | None:
    """Return the column that tells rows of the same time apart, if there is one with few values."""
    rows = list(zip(*(texts[name] for name in columns), strict=True))
    for name in (name for name in texts if name not in columns):
        has_few = len({*texts[name]}) <= min(MOST_LABELS, len(rows) // 3)
        if has_few and len({*zip(rows, texts[name], strict=True)}) == len(rows) > len({*rows}):
            return name
    return None


def episode_hint(label: str | None) -> str:
    """Say what to set where rows of several recordings, or of several features, have the same time."""
    if label is None:
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


def _settled(
    table: Table,
    columns: list[str],
    times: Mapping[str, Times],
    texts: Texts,
    reading: Reading,
    notes: list[str],
) -> Reading:
    """Return the settings with these columns as the time, in the one format by which rows are the most even."""
    even = {each: regularity(np.sort(t)) for each, t in times.items()}
    sure = [each for each, t in times.items() if even[each] == 1 and len(t) > ENOUGH]
    least = 1.0 if sure else 0.5
    fitting = [each for each in even if even[each] >= least] or list(even)
    if len(fitting) != 1:
        first = next((text for text in texts[columns[0]] if text is not None), None)
        ways = "in several ways" if fitting else "neither as a number nor as a date"
        raise UserError(
            f"{table.where}, column {columns[0]!r}: {str(first)[:100]!r} can be read {ways}",
            hint=f"Set {as_setting(columns)} and data.time_format, e.g. "
            + (" or ".join(map(repr, fitting[:3])) or "'%d/%m/%Y %H:%M'"),
        )
    if reading.order_column is None:
        shown = f" ({fitting[0]})" if fitting[0] not in ("iso", "s") else ""
        notes.append(f"time taken from {listed(columns)}{shown}; data.order_column can name another column")
    order = columns[0] if len(columns) == 1 else columns
    return reading.model_copy(update={"order_column": order, "time_format": fitting[0]})


def _candidates(kinds: Mapping[str, str], texts: Texts, reading: Reading) -> Iterator[list[str]]:
    """Columns that may give the time, alone or together, the likeliest first."""
    taken = {reading.episode_column, *reading.covariates, *(reading.features or ())}
    free = {name: kind for name, kind in kinds.items() if name not in taken}
    year, month, day, *clock = PARTS.values()
    for wanted in ((year, month, day, *clock), (year, DAY_OF_YEAR_NAME, *clock)):
        parts = [next((n for n in free if re.fullmatch(f"(?i){part}", n)), "") for part in wanted]
        parts = parts[: parts.index("")] if "" in parts else parts
        if len(parts) > 1:
            yield parts
    words = [name for name, kind in free.items() if kind in ("time", "text")]
    clocks = [n for n in words if fitting(texts[n], CLOCKS) and not fitting(texts[n], DATES)]
    numbers = [name for name, kind in free.items() if kind == "number"]
    dates = [name for name in words if name not in clocks]
    dates += [name for name in numbers if fitting(texts[name], ["%Y%m%d", "%Y%m"])]
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
    time = time_sql(table, columns, time_format, reading.decimal)
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
