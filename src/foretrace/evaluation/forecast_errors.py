"""Errors of a forecast, summed by group: whatever is averaged, compared or resampled is made of these.

Shapes: B rows of a batch, E episodes, G groups, H steps ahead, F features.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MODEL = "model"  # the name under which the model stands among the baselines
CALIBRATED = "calibrated"  # the model's forecast as it is given, see `foretrace.evaluation.calibration`
CLIMATOLOGY = "climatology"  # quantiles of the training part
FEWEST = 5  # groups: an interval from fewer was far too narrow in simulations with skewed errors


@dataclass(frozen=True, eq=False, kw_only=True)
class ForecastErrors:
    """Squared and absolute errors summed over the forecasts of each group, in scaled units.

    A mean is the ratio of two sums over groups, so a long recording weighs as much as its steps.

    >>> errors = ForecastErrors.none(2, (1,))
    >>> errors.add(torch.tensor([1, 1]), torch.tensor([[2.0], [-4.0]]))
    >>> errors.squared.tolist(), errors.count.tolist(), errors.mse.tolist(), float(errors.mean_l1)
    ([[0.0], [20.0]], [0, 2], [10.0], 3.0)
    """

    squared: FloatArray  # (G, F) one step ahead, (G, H, F) in open loop
    absolute: FloatArray  # the same shape
    count: IntArray  # (G,), errors in each sum; 0 for a group without a forecast

    def __post_init__(self) -> None:
        if self.squared.shape != self.absolute.shape or self.count.shape != self.squared.shape[:1]:
            raise ValueError("errors need as many squared as absolute sums, and one count for each group")

    @classmethod
    def none(cls, num_groups: int, shape: tuple[int, ...]) -> "ForecastErrors":
        """Return sums over no errors, each of which will have a shape of (F,) or (H, F)."""
        squared, absolute = np.zeros((2, num_groups, *shape))
        return cls(squared=squared, absolute=absolute, count=np.zeros(num_groups, np.int64))

    def add(self, groups: Tensor, error: Tensor) -> None:
        """Add one error (B, *shape) to each of the groups (B,)."""
        error = error.double()
        for total, part in (
            (self.squared, error.square()),
            (self.absolute, error.abs()),
            (self.count, torch.ones_like(groups)),
        ):
            torch.from_numpy(total).index_add_(0, groups, part)

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

    def at(self, steps: int) -> "ForecastErrors":
        """Return the errors that many steps ahead, (G, F), of open-loop ones (G, H, F)."""
        return ForecastErrors(
            squared=self.squared[:, steps - 1], absolute=self.absolute[:, steps - 1], count=self.count
        )

    def in_units(self, scale: FloatArray) -> "ForecastErrors":
        """Return the errors with each feature's multiplied by its ``scale`` (F,), e.g. in its own unit."""
        squared, absolute = self.squared * scale**2, self.absolute * scale
        return ForecastErrors(squared=squared, absolute=absolute, count=self.count)


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """What may be drawn independently of each other: recordings, or stretches of time of a few.

    Steps of one recording resemble each other, so recordings are drawn as a whole. Of fewer than five, each is
    cut into stretches of equal length; an interval then speaks for these recordings at another time, not for
    other recordings.

    >>> one = Sequences.from_episodes([np.zeros((25, 1))], feature_names=["height"])
    >>> groups = Groups.of(one, stretch=10)
    >>> groups.by, groups.number, groups.find(torch.tensor(0), torch.tensor([0, 9, 10, 24])).tolist()
    ('time', 2, [0, 0, 1, 1])
    """

    by: Literal["recording", "time"]  # which of the two
    number: int  # G
    first: Tensor  # (E,), each episode's first group
    last: Tensor  # (E,), each episode's last group
    stretch: int  # steps of a group; of no meaning for recordings

    @classmethod
    def of(cls, sequences: Sequences, *, stretch: int) -> "Groups":
        """Group the episodes, or stretches of ``stretch`` steps of each; what is left joins the last one."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(sequences.recordings))}
        if len(numbers) >= FEWEST:
            first = torch.tensor([numbers[name] for name in sequences.recordings])
            return cls(by="recording", number=len(numbers), first=first, last=first, stretch=stretch)
        per_episode = torch.from_numpy(np.maximum(sequences.lengths // stretch, 1))
        last = per_episode.cumsum(0) - 1
        return cls(
            by="time", number=int(per_episode.sum()), first=last - per_episode + 1, last=last, stretch=stretch
        )

    def find(self, episodes: Tensor, steps: Tensor) -> Tensor:
        """Return the group of each step of each episode; any shapes that broadcast."""
        first, last = self.first[episodes], self.last[episodes]
        return torch.minimum(first + (steps // self.stretch), last)
