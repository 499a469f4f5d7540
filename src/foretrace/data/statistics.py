"""Per-feature statistics of data and their digest, in double precision and in one pass.

Shapes: N rows of all episodes, E episodes, F features, K covariates.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from foretrace.data.sequences import Sequences

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BLOCK = 1 << 16  # rows that are read at a time
CACHED = 1 << 12  # rows that are converted at a time, so that they stay in a processor's cache
AHEAD = 8  # blocks that are hashed before their statistics are done


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Size and spread of the training data, by which a model scales."""

    mean: DoubleArray  # mean per feature, in its unit, (F,)
    std: DoubleArray  # standard deviation per feature, (F,)
    change: DoubleArray  # root mean square of the change from one step to the next, per feature, (F,)
    covariate_mean: DoubleArray  # mean per covariate, (K,)
    covariate_std: DoubleArray  # standard deviation per covariate, (K,)


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


def measure(sequences: "Sequences") -> tuple[Statistics, str]:
    """Return the statistics of all episodes and their digest, with a few blocks in memory at a time.

    Blocks are hashed one after the other, while threads measure those before; they are merged in their order, so that
    the result does not depend on the number of threads.
    """
    sha = hashlib.sha256(
        repr((sequences.feature_names, sequences.covariate_names, sequences.lengths.tolist())).encode()
    )
    is_one_stream = not sequences.covariate_names and sequences.next_values is None
    parts: deque[Future[Moments]] = deque()
    features, covariates = sequences.values.shape[1], sequences.covariates.shape[1]
    total = Moments(
        0, np.zeros(features + covariates), np.zeros(features + covariates), 0, np.zeros(features)
    )
    with ThreadPoolExecutor() as pool:
        for first, end, lasts in spans(sequences.bounds):
            parts.append(pool.submit(_measure, sequences, first, end, lasts))
            if is_one_stream:
                sha.update(np.ascontiguousarray(sequences.values[first:end]).data)
            if len(parts) > AHEAD:
                total = total.merge(parts.popleft().result())
        total = reduce(Moments.merge, (part.result() for part in parts), total)
    if not is_one_stream:
        arrays = [
            a
            for a in (sequences.values, sequences.covariates, sequences.next_values)
            if a is not None and a.size
        ]
        for first, end in sequences.bounds:
            for array in arrays:
                sha.update(np.ascontiguousarray(array[first:end]).data)
    mean, std = total.mean, np.sqrt(total.squares / max(total.rows, 1))
    found = Statistics(
        mean=mean[:features],
        std=std[:features],
        change=np.sqrt(total.squared_changes / max(total.changes, 1)),
        covariate_mean=mean[features:],
        covariate_std=std[features:],
    )
    return found, sha.hexdigest()


def spans(bounds: IntArray) -> Iterator[tuple[int, int, IntArray]]:
    """Iterate over blocks of rows, which episodes that lie side by side share, with the last row of each in them.

    >>> [(first, end, lasts.tolist()) for first, end, lasts in spans(np.array([[0, 3], [3, 70000], [80000, 80001]]))]
    [(0, 65536, [2]), (65536, 70000, [69999]), (80000, 80001, [80000])]
    """
    apart = np.flatnonzero(bounds[1:, 0] != bounds[:-1, 1]) + 1
    for run in np.split(bounds, apart) if len(bounds) else []:
        lasts, stop = run[:, 1] - 1, int(run[-1, 1])
        for first in range(int(run[0, 0]), stop, BLOCK):
            end = min(first + BLOCK, stop)
            yield first, end, lasts[slice(*np.searchsorted(lasts, [first, end]))]


def _measure(sequences: "Sequences", first: int, end: int, lasts: IntArray) -> Moments:
    """Measure a block of rows, of which the last ones of their episodes have no change to a next one."""
    parts = []
    for start in range(first, end, CACHED):
        stop = min(start + CACHED, end)
        # Columns are side by side in memory, where numpy is twice as fast. Shape (F, rows), perhaps with the next row.
        values = sequences.values[start : stop + 1].T.astype(np.float64, order="C")
        if sequences.next_values is None:
            changes = np.diff(values, axis=1)
            without = lasts[slice(*np.searchsorted(lasts, [start, start + changes.shape[1]]))]
            changes = np.delete(changes, without - start, axis=1) if len(without) else changes
        else:
            changes = sequences.next_values[start:stop].T - values[:, : stop - start]
        columns = np.concatenate([values[:, : stop - start], sequences.covariates[start:stop].T])
        mean = columns.mean(axis=1)
        squares, squared_changes = (np.einsum("ij,ij->i", a, a) for a in (columns - mean[:, None], changes))
        parts.append(Moments(stop - start, mean, squares, changes.shape[1], squared_changes))
    return reduce(Moments.merge, parts)
