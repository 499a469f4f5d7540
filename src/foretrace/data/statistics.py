"""Per-feature statistics of a training part, in double precision.

Shapes: F features, K covariates.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretrace.data.sequences import FloatArray, Sequences, blocks

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Size and spread of the training data, by which a model scales.

    Args:
        mean: Mean per feature, in its unit. Shape (F,).
        std: Standard deviation per feature. Shape (F,).
        change: Root mean square of the change from one step to the next, per feature. Shape (F,).
        covariate_mean: Mean per covariate. Shape (K,).
        covariate_std: Standard deviation per covariate. Shape (K,).

    >>> ramp = Sequences.from_episodes([np.arange(5.0)[:, None]], feature_names=["height"])
    >>> found = Statistics.of(ramp)
    >>> found.mean.tolist(), found.std.round(3).tolist(), found.change.tolist()
    ([2.0], [1.414], [1.0])
    """

    mean: DoubleArray
    std: DoubleArray
    change: DoubleArray
    covariate_mean: DoubleArray
    covariate_std: DoubleArray

    @classmethod
    def of(cls, sequences: Sequences) -> "Statistics":
        """Measure the episodes in ``sequences`` and nothing else, some rows in memory at a time."""
        mean, std = _moments(sequences, sequences.values)
        covariate_mean, covariate_std = _moments(sequences, sequences.covariates)
        squares, steps = np.zeros(len(mean)), 0
        after = sequences.values if sequences.next_values is None else sequences.next_values
        shift = 1 if sequences.next_values is None else 0
        for first, end in blocks(sequences.bounds - np.array([0, shift])):
            change = after[first + shift : end + shift].astype(np.float64) - sequences.values[first:end]
            squares += (change**2).sum(axis=0)
            steps += len(change)
        change_rms = np.sqrt(squares / max(steps, 1))
        return cls(
            mean=mean, std=std, change=change_rms, covariate_mean=covariate_mean, covariate_std=covariate_std
        )


def _moments(sequences: Sequences, array: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Return mean and standard deviation in two passes: one pass would cancel where the mean is large."""
    rows, width = sequences.num_rows, array.shape[1]
    mean, variance = np.zeros(width), np.zeros(width)
    for first, end in blocks(sequences.bounds):
        mean += array[first:end].sum(axis=0, dtype=np.float64) / rows
    for first, end in blocks(sequences.bounds):
        variance += ((array[first:end] - mean) ** 2).sum(axis=0) / rows
    return mean, np.sqrt(variance)
