"""From rows to episodes without holes: what is filled, cut, and derived from the time.

Everything works on mapped arrays, some rows at a time. Shapes: N rows of all episodes, T rows of one, C columns.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.times import JUMP, Times

Rows = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

BLOCK = 2**16  # rows at once


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Rows ``first`` to ``end`` of a recording, whole or a piece of it, with its usual step in nanoseconds."""

    name: str
    recording: str
    first: int
    end: int
    step: int | None = None


def cut(
    stretches: Sequence[Stretch],
    columns: Sequence[Rows],
    times: Times | None,
    reading: Reading,
    notes: Counter[str],
) -> list[Stretch]:
    """Fills short holes in place, and gives the pieces of at least 2 rows without a hole or a jump in time.

    Args:
        stretches: Whole recordings.
        columns: Arrays of shape (N, C), NaN where a value is missing.
        times: Time of each row; None if it is not known.
        reading: What to fill and where to cut.
        notes: Where the effect is counted.

    Returns:
        Pieces named ``name#1``, ``name#2``, … if a recording has several.
    """
    edges = np.array([row for s in stretches for row in (s.first, *_jumps(s, times, reading))], np.int64)
    notes["gaps in time"] += len(edges) - len(stretches)
    limit = reading.missing_limit if reading.missing == "interpolate" else 0
    holes = np.unique(np.concatenate([_fill(array, stretches, edges, limit, notes) for array in columns]))
    pieces: list[Stretch] = []
    for stretch in stretches:
        inside = holes[slice(*np.searchsorted(holes, (stretch.first, stretch.end)))]
        if reading.missing == "drop" and len(inside):
            notes.update({"episodes dropped": 1, "rows left out": stretch.end - stretch.first})
            continue
        starts = edges[slice(*np.searchsorted(edges, (stretch.first, stretch.end)))]
        firsts = np.setdiff1d(np.union1d(starts, inside + 1), inside)
        firsts = firsts[firsts < stretch.end]
        ends = np.concatenate([starts[1:], inside, [stretch.end]])
        ends.sort()
        lasts = ends[np.searchsorted(ends, firsts, side="right")]
        kept = [(a, b) for a, b in zip(firsts.tolist(), lasts.tolist(), strict=True) if b - a >= 2]
        notes["episodes too short"] += len(firsts) - len(kept)
        notes["rows left out"] += stretch.end - stretch.first - sum(b - a for a, b in kept)
        names = [f"{stretch.name}#{k}" for k in range(1, len(kept) + 1)] if len(kept) > 1 else [stretch.name]
        pieces += [replace(stretch, name=n, first=a, end=b) for n, (a, b) in zip(names, kept, strict=False)]
    return pieces


def derived_names(reading: Reading) -> list[str]:
    """Names of the covariates that are made from the time."""
    waves = [f"{name}_{wave}" for name in reading.calendar for wave in ("sin", "cos")]
    return (["elapsed"] if reading.elapsed else []) + waves


def derive(times: Times, reading: Reading, *, before: int) -> npt.NDArray[np.float32]:
    """Covariates made from the time: seconds since the row before, sine and cosine of where in the calendar it is.

    Args:
        times: Of rows that follow each other, in nanoseconds since 1970. Shape (T,).
        reading: Which.
        before: Time of the row before the first.

    Returns:
        Shape (T, K).
    """
    columns = [np.diff(times, prepend=before) / 1e9] if reading.elapsed else []
    days, stamps = times / 86_400e9, times.astype("M8[ns]")
    turns = {
        "hour": days,
        "weekday": (days + 3) / 7,  # 1970-01-01 was a Thursday
        "month": stamps.astype("M8[M]").astype(np.int64) / 12,
        "yearday": (stamps - stamps.astype("M8[Y]")).astype(np.int64) / 86_400e9 / 365.2425,
    }
    for name in reading.calendar:
        angle = 2 * np.pi * (turns[name] % 1)
        columns += [np.sin(angle), np.cos(angle)]
    return np.array(columns, np.float32).reshape(len(columns), len(times)).T


def blocks(first: int, end: int) -> Iterator[slice]:
    """Pieces of rows that fit into memory."""
    return (slice(start, min(start + BLOCK, end)) for start in range(first, end, BLOCK))


def _jumps(stretch: Stretch, times: Times | None, reading: Reading) -> list[int]:
    """Rows that do not follow the one before them in time."""
    found: list[int] = []
    if times is None or stretch.step is None or reading.gaps == "keep":
        return found
    for rows in blocks(stretch.first, stretch.end - 1):
        apart = np.abs(np.diff(times[rows.start : rows.stop + 1]) - stretch.step)
        found += (rows.start + 1 + np.flatnonzero(apart > JUMP * stretch.step)).tolist()
    return found


def _fill(
    values: Rows, stretches: Sequence[Stretch], edges: Indices, limit: int, notes: Counter[str]
) -> Indices:
    """Fills holes of at most ``limit`` rows between two values on a straight line; gives rows that still have one."""
    pairs, left = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    for stretch in stretches:
        for block in blocks(stretch.first, stretch.end):
            pairs.append(np.argwhere(np.isnan(values[block])) + np.array([block.start, 0]))
    missing, ends = np.concatenate(pairs), np.array([s.end for s in stretches])
    for column in np.unique(missing[:, 1]):
        rows = missing[missing[:, 1] == column, 0]
        breaks = (np.diff(rows) != 1) | np.isin(rows[1:], edges)
        first, end = rows[np.append(True, breaks)], rows[np.append(breaks, True)] + 1
        inside = ~np.isin(first, edges) & ~np.isin(end, edges) & ~np.isin(end, ends) & (end - first <= limit)
        for a, b in zip(first[inside], end[inside], strict=True):
            values[a:b, column] = np.interp(np.arange(a, b), (a - 1, b), values[[a - 1, b], column])
        notes["values interpolated"] += int((end - first)[inside].sum())
        left.append(rows[~np.repeat(inside, end - first)])
        values[left[-1], column] = 0  # in no piece, but finite
    return np.concatenate(left)
