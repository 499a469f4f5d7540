"""From rows to episodes of even steps without holes: resampled, filled, and cut where recordings have gaps.

What belongs to the whole canonical form works on mapped arrays, some rows at a time. Times are whole nanoseconds.
Shapes: N rows of all episodes, T rows of one, F features, K covariates, C columns.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretrace.config.data import Reading
from foretrace.errors import UserError

Rows = npt.NDArray[Any]
Times = npt.NDArray[np.int64]

SAME_STEP = 0.05  # spacings this near to each other are one time step: stamps are rounded to ms
MONTH_S = 27 * 86_400  # steps from here on are months, quarters, years: even only if they are equal
CLOCK = 1000  # rows within which stamps may stray from an even clock, but not drift away from it
JUMP = 0.5  # a spacing this far from the time step, as a share of it, is no step
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
    return values, known, np.memmap(folder / "times", np.int64, "r").view(np.ndarray) if has_times else None


def regularity(values: npt.NDArray[Any], *, tolerance: float = SAME_STEP) -> float:
    """Return the share of steps that are within a share of the median step.

    >>> regularity(np.array([0, 1, 2, 9, 10]))
    0.75
    """
    steps = np.abs(np.diff(values).astype(np.float64))
    step = np.median(steps) if len(steps) else 0
    return float(np.mean(np.abs(steps - step) <= tolerance * step)) if len(steps) else 0.0


def usual_step(times: Times) -> int | None:
    """Return the median step, if at least half of all are near it; None if there is no such step.

    >>> usual_step(np.array([0, 60, 120, 300])), usual_step(np.array([0, 1, 8, 38]))
    (60, None)
    """
    return round(float(np.median(np.diff(times)))) if regularity(times, tolerance=JUMP) >= 0.5 else None


def constant_step(stretches: Iterable[Times]) -> float | None:
    """Return the time step in seconds of stretches without holes; None if rows do not follow each other evenly.

    Stamps that stray around an even clock are even; months and what drifts away from a clock are not.

    >>> constant_step([np.array([0, 33, 66, 100]) * 10**6]), constant_step([np.array([0, 31, 59, 90]) * 86400 * 10**9])
    (0.03333333, None)
    >>> constant_step([np.arange(9) * 3600 * 10**9, np.arange(9) * 86400 * 10**9])
    """
    means, counts = list[float](), list[int]()
    is_exact = is_even = is_same = True
    for times in (times for times in stretches if len(times) > 1):
        means.append(float(times[-1] - times[0]) / (len(times) - 1))
        counts.append(len(times) - 1)
        for start in range(0, len(times) - 1, CLOCK):
            spacings = np.diff(times[start : start + CLOCK + 1]).astype(np.float64)
            is_exact &= bool((np.abs(spacings - means[-1]) <= SAME_STEP * means[-1]).all())
            is_same &= bool((spacings == means[0]).all())
            clock = np.cumsum(spacings)
            strays = clock - np.linspace(clock[-1] / len(clock), clock[-1], len(clock))
            is_even &= bool((np.abs(strays) < JUMP * means[-1]).all())
    step = float(np.average(means, weights=counts)) if means else 0.0
    is_one = np.abs(np.array(means) - step) <= (SAME_STEP + 2 * JUMP / np.maximum(counts, 1)) * step
    if not step or not (is_exact or is_even) or not is_one.all() or (step > MONTH_S * 1e9 and not is_same):
        return None
    step /= 1e9
    rounded = float(f"{step:.2g}")
    return rounded if not is_exact and abs(rounded - step) < 0.01 * step else float(f"{step:.7g}")


def times_after(times: Times, count: int, dt_s: float | None) -> Times:
    """Continue the times: by the time step, by months where rows are months apart, else by the usual step.

    >>> months = np.array(["2024-11-01", "2024-12-01", "2025-01-01"], "M8[ns]").astype(np.int64)
    >>> times_after(months, 2, None).astype("M8[ns]").astype("M8[D]").tolist()
    [datetime.date(2025, 2, 1), datetime.date(2025, 3, 1)]
    """
    ahead, recent = np.arange(1, count + 1), times[-1000:]
    usual = int(np.median(np.diff(recent))) if len(recent) > 1 else 10**9
    if dt_s is None and usual > MONTH_S * 10**9:
        months = recent.astype("M8[ns]").astype("M8[M]")
        within = recent - months.astype("M8[ns]").astype(np.int64)
        if (within == within[-1]).all():
            by = int(np.median(np.diff(months.astype(np.int64))))
            later: Times = (months[-1] + by * ahead).astype("M8[ns]").astype(np.int64) + within[-1]
            return later
    following: Times = times[-1] + np.round((usual if dt_s is None else dt_s * 1e9) * ahead).astype(np.int64)
    return following


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
        told = f"data.resample_s: {count:,} rows would be made of {len(times):,}"
        raise UserError(told, hint="Give a longer step")
    grid = first + step * np.arange(count)
    if how == "linear":
        found = np.full((count, rows.shape[1]), np.nan, np.float32)
        for column, out in zip(rows.T, found.T, strict=True):
            t, values = times[~np.isnan(column)], column[~np.isnan(column)]
            if len(t):
                out[:] = np.interp(grid, t, values, left=np.nan, right=np.nan)
                after = np.clip(np.searchsorted(t, grid), 0, len(t) - 1)
                out[(t[after] != grid) & (t[after] - t[np.maximum(after - 1, 0)] > (limit + 1) * step)] = (
                    np.nan
                )
    else:
        by_step = pd.DataFrame(rows.astype(np.float64)).groupby((times - first) // step).agg(how)
        found = by_step.reindex(range(count)).to_numpy(np.float32)
    empty: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isnan(found), axis=1)
    for a, b in _runs([empty]):
        if b - a <= limit and a > 0 and b < count:
            weight = np.arange(1, b - a + 1)[:, None] / (b - a + 1)
            found[a:b] = found[a - 1] if how == "last" else found[a - 1] + weight * (found[b] - found[a - 1])
            empty[a:b] = False
    return grid[~empty], found[~empty]


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


def split_future(stretches: Sequence[Stretch], values: Rows) -> tuple[list[Stretch], dict[str, list[int]]]:
    """Set rows without any feature at the end of each recording apart."""
    kept, future = list[Stretch](), dict[str, list[int]]()
    for stretch in stretches:
        end = stretch.end
        while end > stretch.first and np.isnan(values[end - 1]).all():
            end -= 1
        if end == stretch.first:
            raise UserError(f"{stretch.name}: not one row with features")
        kept.append(replace(stretch, end=end))
        if end < stretch.end:
            future[stretch.recording] = [end, stretch.end]
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
    limit = reading.missing_limit if reading.missing == "interpolate" else 0
    pieces: list[Stretch] = []
    for stretch in stretches:
        starts = [stretch.first, *_jumps(stretch, times, reading)]
        notes["gaps in time"] += len(starts) - 1
        found, has_holes = list[tuple[int, int]](), False
        for first, end in pairwise([*starts, stretch.end]):
            holes = [hole for rows in columns for hole in _fill(rows[first:end], limit, notes)]
            has_holes |= bool(holes)
            start = 0
            for a, b in [*sorted(holes), (end - first, end - first)]:
                found += [(first + start, first + a)] if a > start else []
                start = max(start, b)
        if reading.missing == "drop" and has_holes:
            notes["episodes dropped"] += 1
            found = []
        kept = [(a, b) for a, b in found if b - a >= 2]
        notes["episodes too short"] += len(found) - len(kept)
        notes["rows left out"] += stretch.end - stretch.first - sum(b - a for a, b in kept)
        names = [f"{stretch.name}#{k}" for k in range(1, len(kept) + 1)] if len(kept) > 1 else [stretch.name]
        pieces += [replace(stretch, name=n, first=a, end=b) for n, (a, b) in zip(names, kept, strict=False)]
    return pieces


def blocks(first: int, end: int) -> Iterator[slice]:
    """Yield pieces of rows that fit into memory."""
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


def _fill(rows: Rows, limit: int, notes: Counter[str]) -> Iterator[tuple[int, int]]:
    """Fill holes of at most ``limit`` rows between two values on a straight line; yield the others, set to 0.

    Args:
        rows: They follow each other. Shape (T, C).
        limit: Rows of the longest hole that is filled.
        notes: Where filled values are counted.
    """
    is_missing = np.zeros(rows.shape[1], bool)
    for block in blocks(0, len(rows)):
        is_missing |= np.isnan(rows[block]).any(axis=0)
    for column in (rows[:, c] for c in np.flatnonzero(is_missing)):
        for a, b in _runs(np.isnan(column[block]) for block in blocks(0, len(column))):
            if a > 0 and b < len(column) and b - a <= limit:
                column[a:b] = np.interp(np.arange(a, b), (a - 1, b), column[[a - 1, b]])
                notes["values interpolated"] += b - a
            else:
                column[a:b] = 0  # in no piece, but finite
                yield a, b


def _runs(masks: Iterable[npt.NDArray[np.bool_]]) -> list[tuple[int, int]]:
    """Give the first place and one past the last of each run of true values in masks that follow each other.

    >>> _runs([np.array([True, False, True]), np.array([True])])
    [(0, 1), (2, 4)]
    """
    edges, start, last = list[int](), 0, False
    for mask in masks:
        edges += (start + np.flatnonzero(np.diff(mask, prepend=last))).tolist()
        start, last = start + len(mask), bool(mask[-1:].any())
    edges += [start] * last
    return list(zip(edges[::2], edges[1::2], strict=True))
