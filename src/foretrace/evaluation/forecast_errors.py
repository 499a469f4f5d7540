"""Errors of a forecast, summed by group, and how far a figure made of them would differ with other groups.

Other groups are other recordings of the same kind, or other times of the same ones.

Whole groups are drawn, never steps (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, sections 8.3 and
13.3: clusters, percentiles). Groups that follow each other in time are drawn in runs (Künsch, "The jackknife and
the bootstrap for general stationary observations", Annals of Statistics 17, 1989), as long as their correlation
asks for (Politis, White, "Automatic block-length selection for the dependent bootstrap", Econometric Reviews 23,
2004, with the correction of 2009), the last one followed by the first so that all are drawn equally often.

Written out rather than `scipy.stats.bootstrap` and ``permutation_test``: these know no runs, and an interval at
100 horizons over 16 recordings took 190 ms against 61 here, a test of signs 56 ms against 3; a run needs 40 of each.

Shapes: B rows of a batch, E episodes, G groups, H steps ahead, F features, R resamples, S any further axes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
RESAMPLES = 2000  # the ends of a 95 % interval then rest on 50 resamples each
LEVEL = 0.95
EXACT_UP_TO = 14  # groups: all 16,384 choices of signs are tried; beyond, as many random ones
AT_ONCE = 1 << 22  # numbers in memory


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
        return replace(self, squared=self.squared[:, steps - 1], absolute=self.absolute[:, steps - 1])

    def in_units(self, scale: FloatArray) -> "ForecastErrors":
        """Return the errors with each feature's multiplied by its ``scale`` (F,), e.g. in its own unit."""
        return replace(self, squared=self.squared * scale**2, absolute=self.absolute * scale)


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


@dataclass(frozen=True, eq=False)
class Interval:
    """A figure with a confidence interval.

    The interval is NaN where it cannot be known: from fewer than five groups, or from errors that are not finite.
    With few groups it is somewhat too narrow: meant for 95 of 100 cases, it held the truth in 90 at 16
    recordings and in 80 at 5, in simulations with skewed errors.

    >>> found = ratio_interval(np.arange(1.0, 6), np.ones(5), generator=np.random.default_rng(0))
    >>> float(found.value), bool(1 < found.low < 3 < found.high < 5), found.known
    (3.0, True, True)
    """

    value: FloatArray  # S, the figure itself
    low: FloatArray  # S
    high: FloatArray  # S

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())


def ratio_interval(
    numerators: FloatArray,
    denominators: FloatArray | IntArray,
    *,
    generator: np.random.Generator,
    in_time: bool = False,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the percentile interval of a ratio of two sums over groups, both drawn together.

    With counts below it is a mean over steps; with another forecast's errors below, one minus the skill.
    Numerators are of shape (G, *S), denominators too, or (G,) for the same below all; ``in_time`` says that groups
    follow each other in time.
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    below = below.reshape(below.shape + (1,) * (above.ndim - below.ndim))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = np.asarray(above.sum(axis=0) / below.sum(axis=0))
        # What each group adds to the ratio, to first order: its correlation in time is that of the ratio.
        influence = (above - value * below).reshape(len(above), -1).mean(axis=1)
        run = run_length(influence) if in_time else 1
        draws = _draw(len(above), resamples, generator, run)
        ratios = [np.tensordot(d, above, axes=1) / np.tensordot(d, below, axes=1) for d in draws]
    drawn = np.concatenate(ratios)
    if len(above) // run < FEWEST or not np.isfinite(drawn).all():
        unknown = np.full_like(value, np.nan)
        return Interval(value, unknown, unknown)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Interval(value, np.asarray(low), np.asarray(high))


def sign_flip_p_value(
    differences: FloatArray, *, generator: np.random.Generator, in_time: bool = False
) -> float:
    """Return how often a sum of differences as large comes about if each may as well have the other sign.

    Two-sided. Exact up to 14 groups; beyond, with as many random choices of signs, the observed one among
    them, so that it is never 0. Differences are one per group (G,); those in time change their sign in runs.

    >>> sign_flip_p_value(np.array([1.0, 2.0, 1.0, 3.0]), generator=np.random.default_rng(0))
    0.125
    """
    run = run_length(differences - differences.mean()) if in_time else 1
    pairs = np.add.reduceat(differences, np.arange(0, len(differences), run))
    enough = abs(pairs.sum()) * (1 - 1e-9)  # sums in another order differ by rounding
    numbers, as_large = np.arange(2 ** min(len(pairs), EXACT_UP_TO)), 0
    size = max(1, AT_ONCE // len(pairs))
    for block in np.split(numbers, range(size, len(numbers), size)):
        if len(pairs) <= EXACT_UP_TO:
            negative = block[:, None] >> np.arange(len(pairs)) & 1
        else:
            negative = generator.integers(2, size=(len(block), len(pairs)), dtype=np.int8)
            negative[block == 0] = 0
        as_large += int((np.abs(pairs.sum() - 2 * (negative.astype(np.float64) @ pairs)) >= enough).sum())
    return as_large / len(numbers)


def run_length(series: FloatArray) -> int:
    """Return how many groups to draw together, by Politis and White's rule for runs drawn in a circle.

    The series (G,), of a mean of zero, is what each group adds to the figure.

    >>> noise = np.random.default_rng(0).normal(size=400)
    >>> smooth = np.convolve(noise, np.ones(10), "same")
    >>> run_length(noise - noise.mean()), run_length(smooth - smooth.mean()) > 5
    (1, True)
    """
    n, size = len(series), float((series**2).mean())
    if n < 4 or not size > 0 or not math.isfinite(size):
        return 1
    farthest = min(n - 1, math.ceil(math.sqrt(n)) + 5)
    rho = np.array([series[: n - k] @ series[k:] for k in range(farthest + 1)]) / (n * size)
    # The first lag after which a few in a row are within noise; the kernel reaches twice as far.
    quiet = np.abs(rho[1:]) < 2 * math.sqrt(math.log10(n) / n)
    needed = max(5, math.ceil(math.sqrt(math.log10(n))))
    last = next((k for k in range(len(quiet)) if quiet[k : k + needed].all()), farthest)
    lags = np.arange(-min(2 * last, farthest), min(2 * last, farthest) + 1)
    kernel = np.clip(2 * (1 - np.abs(lags) / max(2 * last, 1)), 0, 1)
    weighted = kernel * rho[np.abs(lags)]
    g, spectrum = float((weighted * np.abs(lags)).sum()), float(weighted.sum())
    if spectrum <= 0:
        return 1
    best = (2 * g**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * n ** (1 / 3)
    return int(max(1, min(round(best), math.ceil(min(3 * math.sqrt(n), n / 3)))))


def _draw(num_groups: int, resamples: int, generator: np.random.Generator, run: int) -> Iterator[FloatArray]:
    """Iterate over how often each group is drawn, some resamples at a time. Shapes (some, G)."""
    size = max(1, AT_ONCE // num_groups)
    for some in (min(size, resamples - done) for done in range(0, resamples, size)):
        if run == 1:
            evenly = np.full(num_groups, 1 / num_groups)
            yield generator.multinomial(num_groups, evenly, size=some).astype(np.float64)
            continue
        first = generator.integers(num_groups, size=(some, -(-num_groups // run), 1))
        drawn = ((first + np.arange(run)) % num_groups).reshape(some, -1)[:, :num_groups]
        flat = drawn + num_groups * np.arange(some)[:, None]
        yield np.bincount(flat.ravel(), minlength=some * num_groups).reshape(some, -1).astype(np.float64)
