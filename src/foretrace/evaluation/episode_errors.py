"""Errors of a forecast, kept apart by episode: whatever is averaged, compared or resampled is made of these.

Shapes: B rows of a batch, S steps of them, E episodes, H steps ahead, F features, R recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)

MODEL = "model"  # the name under which the model stands among the baselines


@dataclass(frozen=True, eq=False, kw_only=True)
class EpisodeErrors:
    """Squared and absolute errors summed over the steps of each episode, in scaled units.

    A mean is the ratio of two sums over episodes, so a long episode weighs as much as its steps.

    Args:
        squared: Shape (E, F) one step ahead, (E, H, F) in open loop.
        absolute: The same shape.
        count: Errors in each sum; 0 for an episode that was too short. Shape (E,).

    >>> errors = EpisodeErrors(
    ...     squared=np.array([[6.0], [0.0]]), absolute=np.array([[4.0], [0.0]]), count=np.array([3, 1])
    ... )
    >>> errors.mse.tolist(), errors.l1.tolist(), float(errors.mean_mse)
    ([1.5], [1.0], 1.5)
    """

    squared: FloatArray
    absolute: FloatArray
    count: IntArray

    @property
    def mse(self) -> FloatArray:
        """Mean squared error per feature. Shape (F,) or (H, F)."""
        return np.asarray(self.squared.sum(axis=0) / self.count.sum())

    @property
    def l1(self) -> FloatArray:
        """Mean absolute error per feature. Shape (F,) or (H, F)."""
        return np.asarray(self.absolute.sum(axis=0) / self.count.sum())

    @property
    def mean_mse(self) -> FloatArray:
        """Mean squared error over all features. Shape () or (H,)."""
        return np.asarray(self.mse.mean(axis=-1))

    @property
    def mean_l1(self) -> FloatArray:
        """Mean absolute error over all features. Shape () or (H,)."""
        return np.asarray(self.l1.mean(axis=-1))

    def at(self, steps: int) -> "EpisodeErrors":
        """The errors that many steps ahead, of open-loop ones (E, H, F): shapes (E, F)."""
        return EpisodeErrors(
            squared=self.squared[:, steps - 1], absolute=self.absolute[:, steps - 1], count=self.count
        )

    def by_recording(
        self, recordings: Sequence[str], *, scale: FloatArray | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Squared errors, mean over features, of what can be drawn independently of each other.

        Episodes that are pieces of one recording go together. A recording without errors is left out.

        Args:
            recordings: One per episode.
            scale: Multiplies each feature's error first, to bring it to another unit. Shape (F,).

        Returns:
            Sums, (R,) or (R, H), and the errors in each, (R,).
        """
        squared = self.squared if scale is None else self.squared * scale**2
        sums = group(squared.mean(axis=-1), recordings)
        count = group(self.count, recordings)
        return sums[count > 0], count[count > 0]


class ErrorSums:
    """Collects errors, batch by batch, into `EpisodeErrors`.

    Args:
        num_episodes: E.
        shape: Of one error: (F,) or (H, F).

    >>> sums = ErrorSums(2, (1,))
    >>> sums.add(torch.tensor([1, 1]), torch.tensor([[2.0], [-4.0]]))
    >>> sums.errors().squared.tolist(), sums.errors().count.tolist()
    ([[0.0], [20.0]], [0, 2])
    """

    def __init__(self, num_episodes: int, shape: tuple[int, ...]) -> None:
        self._squared = torch.zeros(num_episodes, *shape, dtype=torch.float64)
        self._absolute = torch.zeros_like(self._squared)
        self._count = torch.zeros(num_episodes, dtype=torch.int64)

    def add(self, episodes: Tensor, error: Tensor) -> None:
        """Adds one error (B, *shape) to each of the episodes (B,)."""
        error = error.double()
        self._squared.index_add_(0, episodes, error.square())
        self._absolute.index_add_(0, episodes, error.abs())
        self._count.index_add_(0, episodes, torch.ones_like(episodes))

    def add_steps(self, episodes: Tensor, error: Tensor, counted: Tensor) -> None:
        """Adds the errors (B, S, F) of those steps of the episodes (B,) that count, (B, S)."""
        error = torch.where(counted[..., None], error.double(), 0.0)
        self._squared.index_add_(0, episodes, error.square().sum(dim=1))
        self._absolute.index_add_(0, episodes, error.abs().sum(dim=1))
        self._count.index_add_(0, episodes, counted.sum(dim=1))

    def errors(self) -> EpisodeErrors:
        """What was collected so far."""
        return EpisodeErrors(
            squared=self._squared.numpy().copy(),
            absolute=self._absolute.numpy().copy(),
            count=self._count.numpy().copy(),
        )


def group(sums: npt.NDArray[Number], recordings: Sequence[str]) -> npt.NDArray[Number]:
    """Adds up the rows (E, ...) that bear the same name, in order of appearance.

    >>> group(np.array([1, 2, 3]), ["a", "b", "a"]).tolist()
    [4, 2]
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(recordings))}
    grouped = np.zeros((len(numbers), *sums.shape[1:]), sums.dtype)
    np.add.at(grouped, [numbers[name] for name in recordings], sums)
    return grouped
