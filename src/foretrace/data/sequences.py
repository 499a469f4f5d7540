"""The one type in which recorded episodes travel.

Shapes: N rows of all episodes, E episodes, F features, K covariates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.data.statistics import Statistics, measure

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

BLOCK = 1 << 16  # rows


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


def blocks(bounds: IntArray) -> Iterator[tuple[int, int]]:
    """Iterate over pieces of episodes, so that a long one is not converted as a whole: first row, one past the last.

    >>> list(blocks(np.array([[0, 3], [3, 70000]])))
    [(0, 3), (3, 65539), (65539, 70000)]
    """
    for first, end in bounds.tolist():
        for start in range(first, end, BLOCK):
            yield start, min(start + BLOCK, end)


def _concatenate(parts: Sequence[npt.ArrayLike], width: int) -> FloatArray:
    arrays = [np.asarray(part, dtype=np.float32) for part in parts]
    return np.concatenate(arrays) if arrays else np.zeros((0, width), np.float32)
