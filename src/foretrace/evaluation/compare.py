"""Whether one forecast is better than another by more than chance, and the sentence that says so.

Shapes: G groups, H steps ahead, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foretrace.evaluation.forecast_errors import (
    LEVEL,
    MODEL,
    FloatArray,
    ForecastErrors,
    Interval,
    ratio_interval,
    sign_flip_p_value,
)

ZERO_STATE, CARRIED_STATE, OPEN_LOOP = "zero_state", "carried_state", "open_loop"
PLACES = {
    ZERO_STATE: "one step ahead from a state of zero",
    CARRIED_STATE: "one step ahead with the state carried",
}
Verdict = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """Two forecasts' mean squared errors on the same steps.

    >>> a, b, steps = (np.full((16, 1), error) for error in (8.0, 10.0, 100))
    >>> first, second = (ForecastErrors(squared=e, absolute=e, count=steps[:, 0]) for e in (a, b))
    >>> found = compare_errors(first, second, names=("A", "B"), where="carried_state", in_time=False)
    >>> found.verdict, found.count
    ('better', 1600)
    >>> print(found.sentence())
    A's error is 20 % lower than B's (95 % interval 20 to 20 %), over 16 recordings: larger than chance (p < 0.001)
    """

    names: tuple[str, str]
    where: str  # `zero_state`, `carried_state` or `open_loop/<steps>`
    difference: Interval  # the first one's error less the second one's, in the first one's scaled units
    ratio: Interval  # the first one's error by the second one's
    p_value: float  # how often chance alone gives such a difference, by flipping the sign of each group's
    count: int  # forecasts of each that were compared
    groups: str  # what was drawn for the interval, e.g. `16 recordings`

    @property
    def verdict(self) -> Verdict:
        """Whether the first is better or worse.

        Only if the interval leaves out 0 and chance alone is unlikely: either alone errs with few groups. An error
        that is not finite is worse than one that is.
        """
        change, interval = float(self.difference.value), self.difference
        if not np.isfinite(change):
            return "worse" if float(self.ratio.value) != 0 else "better"
        if not (interval.low > 0 or interval.high < 0) or self.p_value >= 1 - LEVEL:
            return "not distinguishable"
        return "worse" if change > 0 else "better"

    def sentence(self) -> str:
        """Return the comparison in words."""
        first, second = self.names
        low, high = (100 * (float(end) - 1) for end in (self.ratio.low, self.ratio.high))
        change, chance = 100 * (float(self.ratio.value) - 1), f"p = {self.p_value:.2g}"
        chance = chance if self.p_value >= 0.001 else "p < 0.001"
        if self.verdict == "not distinguishable":
            interval = f", 95 % interval {_change(low)} to {_change(high)}" if self.ratio.known else ""
            found = _change(change) if change else "the same"
            return (
                f"{first} and {second} are not distinguishable over {self.groups}:"
                f" {first}'s error is {found}{interval} ({chance})"
            )
        if not np.isfinite(change):
            return (
                f"{first} is {self.verdict} than {second}, whose error is not comparable, over {self.groups}"
            )
        nearest, farthest = sorted((abs(low), abs(high)))
        return (
            f"{first}'s error is {_change(change)} than {second}'s (95 % interval"
            f" {nearest:.2g} to {farthest:.2g} %), over {self.groups}: larger than chance ({chance})"
        )


def compare_errors(
    first: ForecastErrors,
    second: ForecastErrors,
    *,
    names: tuple[str, str],
    where: str,
    in_time: bool,
    scale: FloatArray | None = None,
) -> Comparison:
    """Compare errors (G, F) on the same steps; the draws are the same for the same number of groups.

    A group is a recording, or ``in_time`` a stretch of it. The scale (F,) brings the second forecast's errors to the
    first one's units.
    """
    counted, second = first.count > 0, second if scale is None else second.in_units(scale)
    ours, theirs = (errors.squared[counted].mean(axis=1) for errors in (first, second))
    number, generator = int(counted.sum()), np.random.default_rng(0)
    what = f"{'stretch' if in_time else 'recording'}{'' if number == 1 else 'es' if in_time else 's'}"
    with np.errstate(invalid="ignore"):
        difference = ours - theirs
        return Comparison(
            names=names,
            where=where,
            difference=ratio_interval(difference, first.count[counted], generator=generator, in_time=in_time),
            ratio=ratio_interval(ours, theirs, generator=generator, in_time=in_time),
            p_value=sign_flip_p_value(difference, generator=generator, in_time=in_time),
            count=int(first.count.sum()),
            groups=f"{number} {what}{' of time' if in_time else ''}",
        )


def compare_with_baselines(
    tables: Mapping[str, Mapping[str, ForecastErrors]], *, in_time: bool
) -> tuple[Comparison, ...]:
    """Compare the model with every other forecast, wherever both were made; see `EvaluationResult.tables`."""
    return tuple(
        compare_errors(errors[MODEL], theirs, names=(MODEL, name), where=where, in_time=in_time)
        for where, errors in tables.items()
        for name, theirs in errors.items()
        if name != MODEL
    )


def in_words(verdicts: Sequence[Comparison]) -> list[str]:
    """Return a sentence for each baseline and verdict: what is worse first, what is better last.

    >>> same = ForecastErrors(squared=np.ones((6, 1)), absolute=np.ones((6, 1)), count=np.ones(6, int))
    >>> tables = {"open_loop/50": {"model": same, "ridge": same}, "open_loop/100": {"model": same, "ridge": same}}
    >>> in_words(compare_with_baselines(tables, in_time=False))
    ['not distinguishable from ridge in open loop at 50 and 100 steps (6 starts, 6 recordings)']
    """
    lines = []
    for verdict in ("worse", "not distinguishable", "better"):
        for name in dict.fromkeys(comparison.names[1] for comparison in verdicts):
            found = [c for c in verdicts if c.names[1] == name and c.verdict == verdict]
            if found:
                than = "from" if verdict == "not distinguishable" else "than"
                lines.append(f"{verdict} {than} {name} {_places(found)}")
    return lines


def _places(found: Sequence[Comparison]) -> str:
    """Say where, the steps of the open loop together, and on how much it rests."""
    places = [PLACES[comparison.where] for comparison in found if comparison.where in PLACES]
    ahead = [comparison.where.split("/")[1] for comparison in found if comparison.where not in PLACES]
    if ahead:
        steps = " and ".join([*([", ".join(ahead[:-1])] if ahead[1:] else []), ahead[-1]])
        places.append(f"in open loop at {steps} step{'' if ahead == ['1'] else 's'}")
    last = found[-1]
    what = "forecasts" if last.where in PLACES else "start" if last.count == 1 else "starts"
    return f"{'; '.join(places)} ({last.count:,} {what}, {last.groups})"


def _change(percent: float) -> str:
    return f"{abs(percent):.2g} % {'lower' if percent < 0 else 'higher'}"
