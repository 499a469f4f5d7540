"""From rows to episodes without holes: what is filled, and where recordings are cut.

Everything works on mapped arrays, some rows at a time. Shapes: N rows of all episodes, C columns.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.steps import JUMP, Times
from foretrace.errors import UserError

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


def map_files(
    folder: Path, features: int, covariates: int, *, has_times: bool
) -> tuple[Rows, Rows, Times | None]:
    """Map the files as arrays (N, F), (N, K) and (N,); what is written to them is kept."""
    values = np.memmap(folder / "values", np.float32, "r+").reshape(-1, features).view(np.ndarray)
    known: Rows = np.zeros((len(values), 0), np.float32)
    if covariates:
        known = np.memmap(folder / "covariates", np.float32, "r+").reshape(-1, covariates).view(np.ndarray)
    return values, known, map_times(folder) if has_times else None


def map_times(folder: Path) -> Times:
    """Map the time of each row. Shape (N,)."""
    return np.memmap(folder / "times", np.int64, "r").view(np.ndarray)


def split_future(
    stretches: Sequence[Stretch], values: Rows
) -> tuple[list[Stretch], dict[str, tuple[int, int]]]:
    """Set rows without any feature at the end of each recording apart."""
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


def cut(
    stretches: Sequence[Stretch],
    columns: Sequence[Rows],
    times: Times | None,
    reading: Reading,
    notes: Counter[str],
) -> list[Stretch]:
    """Fill short holes in place, and give the pieces of at least 2 rows without a hole or a jump in time.

    The columns are arrays (N, C), NaN where a value is missing; the stretches are whole recordings. The effect is
    counted in the notes.

    Returns:
        Pieces named ``name#1``, ``name#2``, … if a recording has several.
    """
    starts = np.array([row for s in stretches for row in (s.first, *_jumps(s, times, reading))], np.int64)
    notes["gaps in time"] += len(starts) - len(stretches)
    ends = np.unique([*starts, *(s.end for s in stretches)])
    ends = ends[np.searchsorted(ends, starts) + 1] if len(starts) else ends
    limit = reading.missing_limit if reading.missing == "interpolate" else 0
    left = np.concatenate([_fill(array, starts, ends, limit, notes) for array in columns])
    holes = _joined(left, starts)
    # Between the start of rows that follow each other or a hole's end, and the next hole or their end.
    firsts = np.sort(np.concatenate([starts, holes[:, 1]]))
    lasts = np.sort(np.concatenate([ends, holes[:, 0]]))
    firsts, lasts = firsts[lasts > firsts], lasts[lasts > firsts]
    pieces: list[Stretch] = []
    for stretch in stretches:
        inside = slice(*np.searchsorted(firsts, (stretch.first, stretch.end)))
        found = list(zip(firsts[inside].tolist(), lasts[inside].tolist(), strict=True))
        kept = [(a, b) for a, b in found if b - a >= 2]
        a, b = np.searchsorted(holes[:, 0], (stretch.first, stretch.end))
        if reading.missing == "drop" and a < b:
            notes["episodes dropped"] += 1
            kept = found = []
        notes["episodes too short"] += len(found) - len(kept)
        notes["rows left out"] += stretch.end - stretch.first - sum(b - a for a, b in kept)
        names = [f"{stretch.name}#{k}" for k in range(1, len(kept) + 1)] if len(kept) > 1 else [stretch.name]
        pieces += [replace(stretch, name=n, first=a, end=b) for n, (a, b) in zip(names, kept, strict=False)]
    return pieces


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


def _fill(values: Rows, starts: Indices, ends: Indices, limit: int, notes: Counter[str]) -> Indices:
    """Fill holes of at most ``limit`` rows between two values on a straight line.

    Returns:
        First row and one past the last of each hole that is left. Shape (n, 2).
    """
    found, left = [np.zeros((0, 3), np.int64)], [np.zeros((0, 2), np.int64)]
    for first, end in zip(starts.tolist(), ends.tolist(), strict=True):
        for block in blocks(first, end):
            missing = np.pad(np.isnan(values[block]), ((1, 1), (0, 0)))
            # Of each hole its first row and its end.
            column, edge = np.nonzero((missing[1:] != missing[:-1]).T)
            found.append(np.stack([column[::2], block.start + edge[::2], block.start + edge[1::2]], axis=1))
    runs = np.concatenate(found)
    for column in np.unique(runs[:, 0]):
        holes = _joined(runs[runs[:, 0] == column, 1:], starts)
        inside = ~np.isin(holes[:, 0], starts) & ~np.isin(holes[:, 1], ends) & (np.diff(holes)[:, 0] <= limit)
        for a, b in holes[inside]:
            values[a:b, column] = np.interp(np.arange(a, b), (a - 1, b), values[[a - 1, b], column])
        for a, b in holes[~inside]:
            values[a:b, column] = 0  # in no piece, but finite
        notes["values interpolated"] += int(np.diff(holes[inside]).sum())
        left.append(holes[~inside])
    return np.concatenate(left)


def _joined(holes: Indices, starts: Indices) -> Indices:
    """Holes (n, 2) in order, those that overlap or touch as one, unless one begins where rows do."""
    holes = holes[np.argsort(holes[:, 0], kind="stable")]
    reach = np.maximum.accumulate(holes[:, 1])
    later, before = holes[1:, 0], reach[:-1]
    firsts = np.flatnonzero(np.append(True, (later > before) | ((later == before) & np.isin(later, starts))))
    lasts = np.append(firsts[1:], len(holes)) - 1
    return np.stack([holes[firsts, 0], reach[lasts]], axis=1) if len(holes) else holes
