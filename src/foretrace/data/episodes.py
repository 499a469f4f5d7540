"""From the rows of a table to episodes that are in order and without holes.

Shapes: N rows of a table, T rows of one episode, C columns (features, then inputs).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.data.gaps import is_jump, unbroken, usual_step
from foretrace.data.tables import Table
from foretrace.errors import InputError


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """Rows that follow each other.

    Args:
        name: What it is called.
        recording: What the whole is called of which this is a piece.
        values: NaN where missing. Shape (T, C).
        spacings_s: Time from each row to the next, in seconds. Shape (T - 1,), or (0,) without time stamps.

    >>> Episode(name="run#1", recording="run", values=np.zeros((3, 1)), spacings_s=np.ones(2)).has_time_stamps
    True
    """

    name: str
    recording: str
    values: npt.NDArray[Any]
    spacings_s: npt.NDArray[np.float64]

    @property
    def has_time_stamps(self) -> bool:
        """Whether it is known how long each step took."""
        return len(self.spacings_s) > 0


def separate(table: Table, *, prefix: str) -> list[Episode]:
    """The episodes of a table, each in its order, with names that start with ``prefix``.

    Raises:
        InputError: If an episode has two rows with the same place in the order.
    """
    keys = (table.codes,) if table.order is None else (table.order, table.codes)
    rows = np.lexsort(keys)
    if table.order is not None:
        _check_unique(table, table.order, rows)
    parts = np.split(rows, np.cumsum(np.bincount(table.codes))[:-1])
    names = ["/".join(text for text in (prefix, table.name, label) if text) for label in table.labels]
    return [
        Episode(
            name=name, recording=name, values=table.values[part], spacings_s=_spacings_s(table.order, part)
        )
        for name, part in zip(names, parts, strict=True)
    ]


def time_step(episodes: Sequence[Episode], *, where: str, dt_s: float | None) -> float | None:
    """The time step of a table in seconds, by its time stamps or else by ``dt_s``; None if unknown.

    Raises:
        InputError: If the time stamps contradict ``dt_s``.
    """
    usual = usual_step(np.concatenate([episode.spacings_s for episode in episodes]))
    if usual is None or dt_s is None:
        return usual or dt_s
    if is_jump(np.array([usual]), dt_s).any():
        expected = f"the usual time between the rows of {where}, {usual:g} s"
        remedy = "Leave data.dt_s out: the time stamps give it"
        raise InputError("data.dt_s", expected=expected, received=f"{dt_s:g}", remedy=remedy)
    return usual


def cut(episode: Episode, *, step_s: float | None, limit: int, notes: Counter[str]) -> list[Episode]:
    """Pieces of at least 2 rows without a missing value and without a jump in time.

    Args:
        episode: What was recorded.
        step_s: Its time step in seconds; None if it has none.
        limit: Longest gap that is filled, in rows.
        notes: Where the effect is counted.

    Returns:
        Pieces named ``name#1``, ``name#2``, … if there are several. Values in float32.
    """
    spacings_s, length = episode.spacings_s, len(episode.values)
    jumps = np.zeros(length - 1, bool)
    if step_s is not None and episode.has_time_stamps:
        jumps = is_jump(spacings_s, step_s)
    values, stretches = unbroken(episode.values, jumps=jumps, limit=limit)
    kept = [(first, end) for first, end in stretches if end - first >= 2]
    notes["gaps in time"] += int(jumps.sum())
    notes["episodes too short"] += len(stretches) - len(kept)
    notes["rows left out"] += length - sum(end - first for first, end in kept)
    notes["values interpolated"] += sum(int(np.isnan(episode.values[first:end]).sum()) for first, end in kept)
    return [
        Episode(
            name=f"{episode.name}#{number}" if len(kept) > 1 else episode.name,
            recording=episode.recording,
            values=values[first:end].astype(np.float32),
            spacings_s=spacings_s[first : end - 1],
        )
        for number, (first, end) in enumerate(kept, start=1)
    ]


def _spacings_s(order: npt.NDArray[Any] | None, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    if order is None or order.dtype.kind not in "mM":
        return np.zeros(0)
    spacings: npt.NDArray[np.float64] = np.diff(order[rows]) / np.timedelta64(1, "s")
    return spacings


def _check_unique(table: Table, order: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> None:
    """Checks rows that are sorted by episode, then by their order."""
    before, after = rows[:-1], rows[1:]
    same = np.flatnonzero((order[before] == order[after]) & (table.codes[before] == table.codes[after]))
    if len(same):
        first, second = before[same[0]], after[same[0]]
        episode = f" of {table.labels[table.codes[first]]}".removesuffix(" of ")
        raise InputError(
            f"{table.where}, data.order_column",
            expected="each value once per episode",
            received=f"{order[first]} in rows {first + 1} and {second + 1}{episode}",
            remedy="Tell episodes apart with data.episode_column, or give time stamps in UTC",
        )
