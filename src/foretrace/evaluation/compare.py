"""Whether one run is better than another by more than chance.

Shapes: E episodes, R recordings, H steps ahead, F features.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from foretrace.errors import InputError
from foretrace.evaluation.bootstrap import LEVEL, Interval, bootstrap_ratio, sign_flip_p_value
from foretrace.evaluation.episode_errors import MODEL, EpisodeErrors, FloatArray, IntArray
from foretrace.evaluation.evaluate import EvaluationResult

_Pairs = list[tuple[str, tuple[EpisodeErrors, EpisodeErrors]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """Two models' mean squared errors on the same steps of the same episodes.

    Args:
        names: Of the two.
        difference: The first one's error less the second one's, in the first one's scaled units.
        ratio: The first one's error by the second one's.
        p_value: How often chance alone gives such a difference, by flipping the sign of each episode's.
        num_episodes: Pairs, pieces of one recording counting as one.

    >>> generator = np.random.default_rng(0)
    >>> a, b, steps = np.full(16, 8.0), np.full(16, 10.0), np.full(16, 100)
    >>> print(compare_sums(a, b, steps, names=("A", "B"), generator=generator).sentence())
    A's error is 20 % lower than B's (95 % interval 20 to 20 %), over 16 episodes: larger than chance (p < 0.001)
    """

    names: tuple[str, str]
    difference: Interval
    ratio: Interval
    p_value: float
    num_episodes: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0 and chance alone is unlikely: either alone errs with few episodes."""
        interval = self.difference
        return bool(interval.low > 0 or interval.high < 0) and self.p_value < 1 - LEVEL

    def sentence(self) -> str:
        """The comparison in words."""
        first, second = self.names
        over = f"over {self.num_episodes} episode{'s' if self.num_episodes > 1 else ''}"
        low, high = (100 * (float(end) - 1) for end in (self.ratio.low, self.ratio.high))
        change = 100 * (float(self.ratio.value) - 1)
        if self.told_apart:
            nearest, farthest = sorted((abs(low), abs(high)))
            return (
                f"{first}'s error is {abs(change):.2g} % {_direction(change)} than {second}'s (95 % interval"
                f" {nearest:.2g} to {farthest:.2g} %), {over}: larger than chance ({_chance(self.p_value)})"
            )
        interval = (
            f", 95 % interval {abs(low):.2g} % {_direction(low)} to {abs(high):.2g} % {_direction(high)}"
            if self.ratio.known
            else ""
        )
        found = f"{abs(change):.2g} % {_direction(change)}" if change else "the same"
        return (
            f"{first} and {second} cannot be told apart {over}:"
            f" {first}'s error is {found}{interval} ({_chance(self.p_value)})"
        )


def compare(
    first: EvaluationResult,
    second: EvaluationResult,
    *,
    names: tuple[str, str],
    generator: np.random.Generator,
) -> dict[str, Comparison]:
    """Pairs two runs' errors by episode, for everything that both measured on the same steps.

    Errors are in the units of the first run: two runs that were trained on different data scale differently.

    Args:
        first: A run's assessment.
        second: Another's.
        names: What to call them.
        generator: Of the resamples and signs.

    Returns:
        By what is compared: ``cold``, ``warm``, and ``open loop/<steps>`` for each horizon reported.

    Raises:
        InputError: If they were evaluated on different test episodes, or on no common steps.
    """
    if first.digest != second.digest:
        raise InputError(
            f"{names[0]} and {names[1]}",
            expected="runs that were evaluated on the same test episodes",
            received=f"test data {first.digest[:12]} ({len(first.episode_names)} episodes) and"
            f" {second.digest[:12]} ({len(second.episode_names)} episodes)",
            remedy="Evaluate one of them on the other's data first.",
        )
    ratio, found = second.scale / first.scale, {}
    for what, (ours, theirs) in chain(_one_step(first, second), _open_loop(first, second)):
        sums, count = ours.by_recording(first.recordings)
        others, _ = theirs.by_recording(first.recordings, scale=ratio)
        found[what] = compare_sums(sums, others, count, names=names, generator=generator)
    if not found:
        raise InputError(
            f"{names[0]} and {names[1]}",
            expected="the same windows, or the same warm-up and horizon",
            received=f"{_settings(first)} and {_settings(second)}",
            remedy="Evaluate one of them again with the other's settings.",
        )
    return found


def compare_sums(
    first: FloatArray,
    second: FloatArray,
    count: IntArray,
    *,
    names: tuple[str, str],
    generator: np.random.Generator,
) -> Comparison:
    """Compares sums of squared errors (R,) over the same ``count`` (R,) steps."""
    return Comparison(
        names=names,
        difference=bootstrap_ratio(first - second, count, generator=generator),
        ratio=bootstrap_ratio(first, second, generator=generator),
        p_value=sign_flip_p_value(first - second, generator=generator),
        num_episodes=len(count),
    )


def _one_step(first: EvaluationResult, second: EvaluationResult) -> _Pairs:
    pairs: _Pairs = []
    if first.cold_start.num_positions == second.cold_start.num_positions:
        pairs += _paired("cold", first.cold_start.errors[MODEL], second.cold_start.errors[MODEL])
    if first.warm and second.warm and first.warm.warmup == second.warm.warmup:
        pairs += _paired("warm", first.warm.errors[MODEL], second.warm.errors[MODEL])
    return pairs


def _open_loop(first: EvaluationResult, second: EvaluationResult) -> _Pairs:
    ours, theirs = first.open_loop, second.open_loop
    if not (ours and theirs) or (ours.warmup, ours.horizon) != (theirs.warmup, theirs.horizon):
        return []
    errors = (ours.errors[MODEL], theirs.errors[MODEL])
    return [
        pair
        for steps in ours.horizons
        for pair in _paired(f"open loop/{steps}", *(table.at(steps) for table in errors))
    ]


def _paired(what: str, ours: EpisodeErrors, theirs: EpisodeErrors) -> _Pairs:
    """Nothing if the two were not measured on as many steps of each episode."""
    return [(what, (ours, theirs))] if np.array_equal(ours.count, theirs.count) else []


def _settings(assessment: EvaluationResult) -> str:
    warmup = f", warm-up {assessment.warm.warmup}" if assessment.warm else ""
    horizon = f", horizon {assessment.open_loop.horizon}" if assessment.open_loop else ""
    return f"windows of {assessment.cold_start.num_positions}{warmup}{horizon}"


def _direction(change: float) -> str:
    return "lower" if change < 0 else "higher"


def _chance(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= 0.001 else "p < 0.001"
