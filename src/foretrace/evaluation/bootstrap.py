"""How far a figure would differ with other episodes of the same kind.

Steps of one episode resemble each other, so they are no independent draws: whole episodes are drawn, never steps
(Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, sections 8.3 and 13.3: clusters, percentiles).

Shapes: E episodes, R resamples, S any further axes, V possible values.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64]

RESAMPLES = 2000  # the ends of a 95 % interval then rest on 50 resamples each
LEVEL = 0.95
EXACT_UP_TO = 14  # episodes: all 16,384 choices of signs are tried; beyond, as many random ones
BLOCK = 1024  # choices of signs at once


@dataclass(frozen=True, eq=False)
class Interval:
    """A figure with a confidence interval.

    The interval is NaN where it cannot be known: from one episode alone, or from errors that are not finite.
    With few episodes it is somewhat too narrow: meant for 95 of 100 cases, it held the truth in 90 at 16
    episodes and in 80 at 5, in simulations with skewed errors.

    Args:
        value: The figure itself. Any shape S.
        low: Shape S.
        high: Shape S.

    >>> generator = np.random.default_rng(0)
    >>> found = bootstrap_ratio(np.array([1.0, 3.0]), np.array([1, 1]), generator=generator)
    >>> float(found.value), float(found.low), float(found.high), found.known
    (2.0, 1.0, 3.0, True)
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())


def bootstrap_ratio(
    numerators: Numbers,
    denominators: Numbers,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a ratio of two sums over episodes, both drawn together.

    With counts below it is a mean over steps; with another forecast's errors below, one minus the skill.

    Args:
        numerators: Shape (E, *S).
        denominators: Shape (E, *S), or (E,) for the same below all.
        generator: Where the draws come from.
        resamples: R.
        level: Confidence.
    """
    above = np.asarray(numerators, np.float64)
    below = np.asarray(denominators, np.float64)
    below = below.reshape(below.shape + (1,) * (above.ndim - below.ndim))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = np.asarray(above.sum(axis=0) / below.sum(axis=0))
        draws = _draw(len(above), resamples, generator)
        ratios = np.tensordot(draws, above, axes=1) / np.tensordot(draws, below, axes=1)  # (R, *S)
    return _interval(value, ratios, num_episodes=len(above), level=level)


def bootstrap_median(
    histograms: Numbers,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of the median of whole numbers 0 … V − 1, all that an episode holds drawn together.

    Args:
        histograms: How often an episode holds each number. Shape (E, V).
        generator: Where the draws come from.
        resamples: R.
        level: Confidence.

    >>> once_0_thrice_2 = np.array([[1, 0, 3], [1, 0, 3]])
    >>> float(bootstrap_median(once_0_thrice_2, generator=np.random.default_rng(0)).value)
    2.0
    """
    counts = np.asarray(histograms, np.float64)
    draws = _draw(len(counts), resamples, generator)
    value = _median(counts.sum(axis=0))
    return _interval(value, _median(draws @ counts), num_episodes=len(counts), level=level)


def sign_flip_p_value(differences: FloatArray, *, generator: np.random.Generator) -> float:
    """How often a sum of differences as large as this comes about if each may as well have the other sign.

    Two-sided. Exact up to 14 episodes; beyond, with as many random choices of signs, the observed one among
    them, so that it is never 0.

    Args:
        differences: One per pair. Shape (E,).
        generator: Where the signs come from, when they are random.

    >>> sign_flip_p_value(np.array([1.0, 2.0, 1.0, 3.0]), generator=np.random.default_rng(0))
    0.125
    """
    pairs = len(differences)
    enough = abs(differences.sum()) * (1 - 1e-9)  # sums in another order differ by rounding
    numbers, bits = np.arange(2 ** min(pairs, EXACT_UP_TO)), np.arange(pairs)
    as_large = 0
    for block in np.split(numbers, range(BLOCK, len(numbers), BLOCK)):
        if pairs <= EXACT_UP_TO:
            negative = block[:, None] >> bits & 1
        else:
            negative = generator.integers(2, size=(len(block), pairs))
            negative[block == 0] = 0
        as_large += int((np.abs((1 - 2 * negative) @ differences) >= enough).sum())
    return as_large / len(numbers)


def _draw(num_episodes: int, resamples: int, generator: np.random.Generator) -> FloatArray:
    """How often each episode is drawn. Shape (R, E)."""
    evenly = np.full(num_episodes, 1 / num_episodes)
    return generator.multinomial(num_episodes, evenly, size=resamples).astype(np.float64)


def _median(histogram: FloatArray) -> FloatArray:
    """The lower median of the numbers in histograms (…, V). Shape (…,)."""
    cumulative = histogram.cumsum(axis=-1)
    reached = cumulative >= cumulative[..., -1:] / 2
    return np.asarray(reached.argmax(axis=-1), np.float64)


def _interval(value: FloatArray, drawn: FloatArray, *, num_episodes: int, level: float) -> Interval:
    if num_episodes < 2 or not np.isfinite(drawn).all():
        unknown = np.full_like(value, np.nan)
        return Interval(value, unknown, unknown)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return Interval(value, np.asarray(low), np.asarray(high))
