"""How good intervals are: how much of what came they cover, how wide they are, and their score.

Shapes: L levels, B starts, G groups, H steps ahead, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scoringrules

from foretrace.evaluation.bootstrap import Interval, ratio_interval
from foretrace.evaluation.calibration import Array, Intervals
from foretrace.evaluation.forecast_errors import FloatArray, IntArray

TOLERANCE = 1.0  # percentage points of coverage that are of no consequence


@dataclass(frozen=True, eq=False, kw_only=True)
class IntervalScores:
    """Means over features, summed over the forecasts of each group; see `score_intervals`.

    Args:
        levels: Nominal coverage in percent. Shape (L,).
        covered: Share of the features within the interval. Shape (L, G, H).
        width: Of the interval, in scaled units. Shape (L, G, H).
        score: CRPS from the intervals' ends, in scaled units. Shape (G, H).
        count: Forecasts of each group. Shape (G,).
    """

    levels: tuple[float, ...]
    covered: FloatArray
    width: FloatArray
    score: FloatArray
    count: IntArray

    @property
    def coverage(self) -> FloatArray:
        """Share of what came that lay within. Shape (L, H)."""
        return np.asarray(self.covered.sum(axis=1) / self.count.sum())

    @property
    def mean_width(self) -> FloatArray:
        """Shape (L, H)."""
        return np.asarray(self.width.sum(axis=1) / self.count.sum())

    @property
    def crps(self) -> FloatArray:
        """Mean score. Shape (H,)."""
        return np.asarray(self.score.sum(axis=0) / self.count.sum())

    def coverage_interval(self, *, in_time: bool, pooled: bool = False) -> Interval:
        """Return the coverage with its 95 % confidence interval. Shape (L, H), or (L,) pooled over steps ahead.

        Args:
            in_time: Whether groups follow one another in time.
            pooled: Whether all steps ahead count together.
        """
        some = self.count > 0
        covered = np.moveaxis(self.covered[:, some], 0, -1)  # (G, H, L)
        covered = covered.mean(axis=1) if pooled else covered
        found = ratio_interval(covered, self.count[some], generator=np.random.default_rng(0), in_time=in_time)
        return Interval(*(np.asarray(end).T for end in (found.value, found.low, found.high)))

    def describe(self, horizons: Sequence[int], *, in_time: bool) -> str:
        """Return in words how much the widest intervals cover, and how wide they are a quarter of the way ahead."""
        found, level = self.coverage_interval(in_time=in_time, pooled=True), self.levels[-1]
        value, low, high = (100 * float(end[-1]) for end in (found.value, found.low, found.high))
        said = f"{level:g} % intervals cover {value:.3g} % of what came over 1 to {horizons[-1]} steps"
        if found.known:
            missed = f"{'consistent with' if low <= level <= high else 'close to'} {level:g} %"
            if high < level - TOLERANCE:
                missed = "too narrow"
            elif low > level + TOLERANCE:
                missed = "too wide"
            said += f" (95 % interval {low:.3g} to {high:.3g} %), {missed}"
        at = min(horizons, key=lambda steps: abs(steps - horizons[-1] / 4))
        width = self.mean_width[-1, at - 1]
        return f"{said}; at {at} step{'s' * (at > 1)} they are {width:.2g} standard deviations wide"

    @classmethod
    def none(cls, levels: tuple[float, ...], *, groups: int, horizon: int) -> "IntervalScores":
        """Return sums over no forecasts."""
        covered, width = np.zeros((2, len(levels), groups, horizon))
        score, count = np.zeros((groups, horizon)), np.zeros(groups, np.int64)
        return cls(levels=levels, covered=covered, width=width, score=score, count=count)

    def add(
        self, intervals: Intervals, forecast: Array, spread: Array | None, truth: Array, group: IntArray
    ) -> None:
        """Add rollouts (B, H, F) of some groups (B,), with their spread and what came.

        The score is twice the mean quantile loss of the median and of both ends of each interval: the CRPS, more
        closely the denser the levels are, so only scores of the same levels are to be compared. It equals the
        weighted interval score of Bracher et al., PLOS Computational Biology 17, 2021.
        """
        point, lower, upper = intervals.limits(forecast, spread)
        tail = (1 - np.asarray(self.levels) / 100) / 2
        quantiles = np.moveaxis(np.concatenate([lower, point[None], upper]), 0, -1)
        score = scoringrules.crps_quantile(
            truth, quantiles, np.concatenate([tail, [0.5], 1 - tail]), backend="numpy"
        )
        np.add.at(self.score, group, score.mean(axis=-1))
        np.add.at(self.count, group, 1)
        for number, (low, high) in enumerate(zip(lower, upper, strict=True)):
            np.add.at(self.covered[number], group, ((low <= truth) & (truth <= high)).mean(axis=-1))
            np.add.at(self.width[number], group, (high - low).mean(axis=-1))
