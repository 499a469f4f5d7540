"""Holes in recordings: missing values, and jumps in time.

Shapes: T rows of one episode, C columns.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]  # numbers of any type
Seconds = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

SAME_STEP = (
    0.05  # spacings this near to each other are one time step: clocks jitter, and stamps are rounded to ms
)
JUMP = 0.5  # a spacing this far from the time step, as a share of it, is no step


def usual_step(spacings_s: Seconds) -> float | None:
    """The time step that at least half of the spacings have, in seconds; None if there is no such step.

    >>> usual_step(np.array([60.0, 60.0, 180.0])), usual_step(np.array([1.0, 7.0, 30.0]))
    (60.0, None)
    """
    if not len(spacings_s):
        return None
    step = float(np.median(spacings_s))
    return step if np.mean(_near(spacings_s, step)) >= 0.5 else None


def constant_step(spacings_s: Seconds) -> float | None:
    """The mean of spacings that are all the same but for jitter, in seconds; None if they are not.

    >>> constant_step(np.array([0.033, 0.033, 0.034])), constant_step(np.array([60.0, 180.0]))
    (0.033333333, None)
    """
    if not len(spacings_s):
        return None
    step = float(np.mean(spacings_s))
    return round(step, 9) if _near(spacings_s, step).all() else None  # no stamp is finer than 1 ns


def is_jump(spacings_s: Seconds, step_s: float) -> Booleans:
    """Which spacings are nothing like one time step, so that the rows beside them do not belong together."""
    jumps: Booleans = np.abs(spacings_s - step_s) > JUMP * step_s
    return jumps


def unbroken(values: Rows, *, jumps: Booleans, limit: int) -> tuple[Rows, list[tuple[int, int]]]:
    """Fills short gaps, and finds the stretches of rows that then have no missing value and no jump.

    Args:
        values: One episode, NaN where missing. Shape (T, C).
        jumps: Whether time jumps between a row and the next. Shape (T - 1,).
        limit: Longest gap that is filled, in rows.

    Returns:
        Values of shape (T, C), and the first row and one past the last row of each stretch.

    >>> unbroken(np.array([[1.0], [np.nan], [3.0], [9.0]]), jumps=np.array([False, False, True]), limit=1)[1]
    [(0, 3), (3, 4)]
    """
    edges = [0, *(np.flatnonzero(jumps) + 1).tolist(), len(values)]
    spans = [slice(low, high) for low, high in pairwise(edges)]
    if np.isnan(values).any():
        values = np.concatenate([interpolate(values[span], limit=limit) for span in spans])
    whole: Booleans = np.logical_not(np.isnan(values).any(axis=1))
    stretches = [(span.start, *runs(whole[span])) for span in spans]
    return values, [
        (int(start + low), int(start + high))
        for start, first, end in stretches
        for low, high in zip(first, end, strict=True)
    ]


def interpolate(values: Rows, *, limit: int) -> Rows:
    """Fills gaps of at most ``limit`` rows on a straight line between the values on both sides of them.

    Gaps at the ends and longer ones stay as they are. Each column is filled by itself.

    Args:
        values: One episode without jumps, NaN where missing. Shape (T, C).
        limit: Longest gap that is filled, in rows.

    Returns:
        A copy of shape (T, C).

    >>> interpolate(np.array([[1.0], [np.nan], [3.0], [np.nan]]), limit=1).ravel().tolist()
    [1.0, 2.0, 3.0, nan]
    """
    filled = values.copy()
    for column in filled.T:
        missing = np.isnan(column)
        first, end = runs(missing)
        short = (end - first <= limit) & (first > 0) & (end < len(column))
        rows = np.flatnonzero(missing)[np.repeat(short, end - first)]
        if len(rows):
            column[rows] = np.interp(rows, np.flatnonzero(~missing), column[~missing])
    return filled


def runs(mask: Booleans) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First index of each run of True, and one past its last.

    >>> [edges.tolist() for edges in runs(np.array([True, True, False, True]))]
    [[0, 3], [2, 4]]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def _near(spacings_s: Seconds, step_s: float) -> Booleans:
    near: Booleans = np.abs(spacings_s - step_s) <= SAME_STEP * step_s
    return near
