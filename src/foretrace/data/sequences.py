"""The one type in which recorded episodes travel, with their statistics and digest, found in one pass.

Shapes: N rows of all episodes, E episodes, F features, K covariates.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BLOCK = 1 << 12  # rows that are measured at a time, so that they stay in a processor's cache
AHEAD = 128  # blocks that are hashed before their statistics are done


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Size and spread of the training data, by which a model scales."""

    mean: DoubleArray  # mean per feature, in its unit, (F,)
    std: DoubleArray  # standard deviation per feature, (F,)
    change: DoubleArray  # root mean square of the change from one step to the next, per feature, (F,)
    covariate_mean: DoubleArray  # mean per covariate, (K,)
    covariate_std: DoubleArray  # standard deviation per covariate, (K,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sequences:
    """Episodes of different lengths, side by side in one flat array.

    A selection of episodes, or a part of each, is another `Sequences` over the same array: splitting copies
    nothing, so the array may as well be a `numpy.memmap` larger than memory.

    Args:
        values: Measured features, in their own units, finite. Shape (N, F).
        bounds: First row and one past the last row of each episode. Shape (E, 2).
        feature_names: One name per feature, unique.
        units: One unit per feature, e.g. ``rad/s``; empty where unknown.
        dt_s: Time from one row to the next in seconds; None where unknown or not constant.
        episode_names: One name per episode.
        recordings: The recording that each episode is a piece of; one that was cut at gaps has several.
        covariates: What is known but never predicted (actions, elapsed time). Shape (N, K).
        covariate_names: One name per covariate.
        next_values: What follows each row, where that is not the next row (rows were left out). Shape (N, F).
        times: Time of each row in nanoseconds: since 1970 if ``has_dates``, else from a zero of its own. Shape (N,).
        has_dates: Whether the time of rows is known as a date.
        origin: Where the data came from, for the record, e.g. a path or a simulator with its version.
        notes: What was done to the data on the way (rows interpolated, episodes dropped), for the record.
        warnings: What a person should know before training.
        reading: How files were read, for reading others the same way; see `foretrace.config.data.Reading`.

    Raises:
        ValueError: If shapes or names do not fit together.

    >>> two = Sequences.from_episodes([np.zeros((3, 1)), np.ones((2, 1))], feature_names=["height"])
    >>> len(two), two.lengths.tolist(), two.episode(1).tolist()
    (2, [3, 2], [[1.0], [1.0]])
    >>> two.statistics.mean.tolist(), two.statistics.change.tolist()
    ([0.4], [0.0])
    """

    values: FloatArray
    bounds: IntArray
    feature_names: tuple[str, ...]
    units: tuple[str, ...]
    episode_names: tuple[str, ...]
    recordings: tuple[str, ...]
    dt_s: float | None = None
    covariates: FloatArray
    covariate_names: tuple[str, ...] = ()
    next_values: FloatArray | None = None
    times: IntArray | None = None
    has_dates: bool = False
    origin: str = ""
    notes: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    reading: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, features = self.values.shape
        names, episodes = self.feature_names + self.covariate_names, len(self.episode_names)
        inside = not len(self.bounds) or (self.bounds.min() >= 0 and self.bounds.max() <= rows)
        fits = {
            "one (first, end) and one name per episode": self.bounds.shape == (episodes, 2),
            "one recording for each episode": len(self.recordings) == episodes,
            "one name and one unit per feature": features == len(self.feature_names) == len(self.units),
            "covariates for each row, one name each": self.covariates.shape
            == (rows, len(self.covariate_names)),
            "names used once": len(set(names)) == len(names),
            "bounds within the rows": inside,
            "next values for each row": self.next_values is None
            or self.next_values.shape == (rows, features),
        }
        if missing := [what for what, is_so in fits.items() if not is_so]:
            raise ValueError(f"sequences need {missing[0]}")

    @classmethod
    def from_episodes(
        cls,
        episodes: Sequence[npt.ArrayLike],
        *,
        feature_names: Sequence[str],
        units: Sequence[str] | None = None,
        episode_names: Sequence[str] | None = None,
        recordings: Sequence[str] | None = None,
        covariates: Sequence[npt.ArrayLike] | None = None,
        covariate_names: Sequence[str] = (),
        next_values: Sequence[npt.ArrayLike] | None = None,
        **more: Any,
    ) -> "Sequences":
        """Lay episodes of shape (T_e, F) end to end; ``more`` are other fields as they are."""
        lengths = np.array([len(np.asarray(episode)) for episode in episodes], np.int64)
        ends = np.cumsum(lengths)
        names = tuple(episode_names or (f"episode {e}" for e in range(len(lengths))))
        return cls(
            values=_concatenate(episodes, len(feature_names)),
            bounds=np.stack([ends - lengths, ends], axis=1),
            feature_names=tuple(feature_names),
            units=tuple(units) if units is not None else ("",) * len(feature_names),
            episode_names=names,
            recordings=tuple(recordings or names),
            covariates=_concatenate(covariates or [np.zeros((lengths.sum(), 0))], len(covariate_names)),
            covariate_names=tuple(covariate_names),
            next_values=_concatenate(next_values, len(feature_names)) if next_values else None,
            **more,
        )

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.bounds)

    @property
    def lengths(self) -> IntArray:
        """Rows per episode. Shape (E,)."""
        lengths: IntArray = self.bounds[:, 1] - self.bounds[:, 0]
        return lengths

    @property
    def num_rows(self) -> int:
        """Rows in all episodes together."""
        return int(self.lengths.sum())

    @property
    def num_targets(self) -> IntArray:
        """Rows of each episode that have a known next one. Shape (E,)."""
        return self.lengths if self.next_values is not None else self.lengths - 1

    def following(self, rows: IntArray) -> FloatArray:
        """Return what came after rows (…), which have a known next one. Shape (…, F)."""
        return self.values[rows + 1] if self.next_values is None else self.next_values[rows]

    def episode(self, index: int) -> FloatArray:
        """Return the values of one episode, as a view. Shape (T_e, F)."""
        first, end = self.bounds[index]
        return self.values[first:end]

    def select(self, episodes: Sequence[int] | IntArray) -> "Sequences":
        """Return the chosen episodes, in the order given, over the same array."""
        index = np.asarray(episodes, dtype=np.int64)
        return replace(
            self,
            bounds=self.bounds[index],
            episode_names=tuple(self.episode_names[e] for e in index),
            recordings=tuple(self.recordings[e] for e in index),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over the names, the episodes' lengths and every value in them, in hexadecimal."""
        return self._measured[1]

    @property
    def statistics(self) -> Statistics:
        """Mean, spread and change of these episodes and nothing else."""
        return self._measured[0]

    @cached_property
    def _measured(self) -> tuple[Statistics, str]:
        return measure(self)


def _concatenate(parts: Sequence[npt.ArrayLike], width: int) -> FloatArray:
    arrays = [np.asarray(part, dtype=np.float32) for part in parts]
    return np.concatenate(arrays) if arrays else np.zeros((0, width), np.float32)


class Moments(NamedTuple):
    """What some rows contribute; two of these merge into what all their rows contribute."""

    rows: int  # their number
    mean: DoubleArray  # mean of each feature and covariate, (F + K,)
    squares: DoubleArray  # sum of squared deviations from it, (F + K,)
    changes: int  # number of changes from a row to the next one of its episode
    squared_changes: DoubleArray  # sum of their squares, (F,)

    def merge(self, other: "Moments") -> "Moments":
        """Return those of all rows (Chan, Golub and LeVeque 1983): nothing cancels where the mean is large."""
        rows, apart = self.rows + other.rows, other.mean - self.mean
        return Moments(
            rows,
            self.mean + apart * (other.rows / rows),
            self.squares + other.squares + apart**2 * (self.rows * other.rows / rows),
            self.changes + other.changes,
            self.squared_changes + other.squared_changes,
        )


def measure(sequences: Sequences) -> tuple[Statistics, str]:
    """Return the statistics of all episodes and their digest, with a few blocks in memory at a time.

    Blocks are hashed one after the other, while threads measure those before; they are merged in their order, so that
    the result does not depend on the number of threads.
    """
    named = sequences.feature_names, sequences.covariate_names, sequences.lengths.tolist()
    sha = hashlib.sha256(repr(named).encode())
    is_one_stream = not sequences.covariate_names and sequences.next_values is None
    parts: deque[Future[Moments]] = deque()
    features = len(sequences.feature_names)
    none = np.zeros(features + len(sequences.covariate_names))
    total = Moments(0, none, none, 0, none[:features])
    with ThreadPoolExecutor() as pool:
        for first, end, lasts in blocks(sequences.bounds, BLOCK):
            parts.append(pool.submit(_measure, sequences, first, end, lasts))
            if is_one_stream:
                sha.update(np.ascontiguousarray(sequences.values[first:end]).data)
            if len(parts) > AHEAD:
                total = total.merge(parts.popleft().result())
        total = reduce(Moments.merge, (part.result() for part in parts), total)
    if not is_one_stream:
        arrays = sequences.values, sequences.covariates, sequences.next_values
        for first, end in sequences.bounds:
            for array in arrays:
                sha.update(b"" if array is None else array[first:end].tobytes())
    mean, std = total.mean, np.sqrt(total.squares / max(total.rows, 1))
    found = Statistics(
        mean=mean[:features],
        std=std[:features],
        change=np.sqrt(total.squared_changes / max(total.changes, 1)),
        covariate_mean=mean[features:],
        covariate_std=std[features:],
    )
    return found, sha.hexdigest()


def blocks(bounds: IntArray, size: int) -> Iterator[tuple[int, int, IntArray]]:
    """Iterate over blocks of rows, which episodes that lie side by side share, with the last row of each in them.

    >>> [(first, end, lasts.tolist()) for first, end, lasts in blocks(np.array([[0, 3], [3, 7], [8, 9]]), 5)]
    [(0, 5, [2]), (5, 7, [6]), (8, 9, [8])]
    """
    apart = np.flatnonzero(bounds[1:, 0] != bounds[:-1, 1]) + 1
    for run in np.split(bounds, apart) if len(bounds) else []:
        lasts, stop = run[:, 1] - 1, int(run[-1, 1])
        for first in range(int(run[0, 0]), stop, size):
            end = min(first + size, stop)
            yield first, end, lasts[slice(*np.searchsorted(lasts, [first, end]))]


def _measure(sequences: Sequences, first: int, end: int, lasts: IntArray) -> Moments:
    """Measure a block of rows, of which the last ones of their episodes have no change to a next one."""
    # Columns are side by side in memory, where numpy is twice as fast. Shape (F, rows), perhaps with the next row.
    values = sequences.values[first : end + 1].T.astype(np.float64, order="C")
    if sequences.next_values is None:
        changes = np.diff(values, axis=1)
        without = lasts[lasts < first + changes.shape[1]] - first
        changes[:, without] = 0
    else:
        without, changes = lasts[:0], sequences.next_values[first:end].T - values[:, : end - first]
    columns = np.concatenate([values[:, : end - first], sequences.covariates[first:end].T])
    mean = columns.mean(axis=1)
    squares, squared_changes = (np.einsum("ij,ij->i", a, a) for a in (columns - mean[:, None], changes))
    return Moments(end - first, mean, squares, changes.shape[1] - len(without), squared_changes)
