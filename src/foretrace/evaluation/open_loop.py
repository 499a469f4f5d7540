"""How far ahead a forecast can see, how wrong it may be there, and how good its intervals are.

Shapes: B starts, W steps of warm-up, H steps ahead, G groups, F features, L levels of intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scoringrules
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.evaluation.calibration import Array, Intervals
from foretrace.evaluation.forecast_errors import (
    CALIBRATED,
    CLIMATOLOGY,
    MODEL,
    FloatArray,
    ForecastErrors,
    Groups,
    IntArray,
    Interval,
    ratio_interval,
)
from foretrace.evaluation.references import References
from foretrace.evaluation.rollout import iterate_rollouts
from foretrace.model.next_step import NextStepModel

HORIZONS = (1, 2, 5, 10, 25, 50, 100)  # those that are reported
# Of the valid time: root mean square error over features, in training standard deviations. The mean forecast
# has 1 on average and two unrelated states √2, so at 0.5 a quarter of the variance is lost and the forecast
# still follows the trajectory. The usual threshold of valid prediction times (Vlachas et al., "Backpropagation
# algorithms and Reservoir Computing in Recurrent Neural Networks for the forecasting of complex spatiotemporal
# dynamics", Neural Networks 126, 2020); Pathak et al. (Chaos 28, 2018) take 0.4.
VALID_BELOW = 0.5
TOLERANCE = 1.0  # percentage points of coverage that are of no consequence


@dataclass(frozen=True, eq=False, kw_only=True)
class IntervalScores:
    """How much of what came intervals cover, how wide they are, and their score.

    Means over features, summed over the forecasts of each group.
    """

    levels: tuple[float, ...]  # L, nominal coverage in percent
    covered: FloatArray  # (L, G, H), share of the features within the interval
    width: FloatArray  # (L, G, H), of the interval, in scaled units
    score: FloatArray  # (G, H), CRPS from the intervals' ends, in scaled units
    count: IntArray  # (G,), forecasts

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

        ``in_time`` says that groups follow one another in time.
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


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenLoop:
    """Open-loop errors of the model and of all baselines, from the same starts.

    ``calibrated`` is what a forecast of the model gives, ``model`` the same before the calibration.

    >>> two_starts = ForecastErrors(squared=np.ones((1, 3, 1)), absolute=np.ones((1, 3, 1)), count=np.array([2]))
    >>> loop = OpenLoop(warmup=5, errors={"model": two_starts}, valid={"model": np.array([[1, 0, 0, 2]])})
    >>> loop.horizons, loop.num_starts, loop.valid_time("model")
    ((1, 2, 3), 2, 3)
    """

    warmup: int  # steps read before each start, W; the state is zero before them
    threshold: float = VALID_BELOW  # below which a forecast is called valid, in training standard deviations
    errors: dict[str, ForecastErrors]  # (G, H, F) each, by the name of the forecast, the model's first
    valid: dict[str, IntArray]  # (G, H + 1) each, how many starts stay valid for 0 ... H steps, H or more
    # By the name of the forecast, `calibrated` first; empty where there are none.
    intervals: dict[str, IntervalScores] = field(default_factory=dict)

    @property
    def horizon(self) -> int:
        """Steps ahead, H."""
        return int(self.errors[MODEL].squared.shape[1])

    @property
    def horizons(self) -> tuple[int, ...]:
        """Steps ahead at which errors are reported, the last one included."""
        return (*(steps for steps in HORIZONS if steps < self.horizon), self.horizon)

    @property
    def num_starts(self) -> int:
        """Starts in all episodes."""
        return int(self.errors[MODEL].count.sum())

    @property
    def given(self) -> ForecastErrors:
        """Errors (G, H, F) of what a forecast of the model gives: calibrated, where that is known."""
        return self.errors.get(CALIBRATED, self.errors[MODEL])

    def valid_time(self, name: str) -> int:
        """Return the lower median over starts of the steps for which a forecast stays valid; H means H or more."""
        reached = self.valid[name].sum(axis=0).cumsum()
        return int((reached >= reached[-1] / 2).argmax())


def evaluate_open_loop(
    model: NextStepModel,
    references: References,
    sequences: Sequences,
    groups: Groups,
    *,
    warmup: int,
    horizon: int,
) -> OpenLoop:
    """Evaluate rollouts that tile each episode: a start every ``horizon`` steps; see `iterate_rollouts`."""
    baselines, calibration = references.baselines, references.calibration
    names = [MODEL, *([CALIBRATED] if calibration else []), *(baseline.name for baseline in baselines)]
    shape = horizon, sequences.values.shape[1]
    errors = {name: ForecastErrors.none(groups.number, shape) for name in names}
    valid = {name: np.zeros((groups.number, horizon + 1), np.int64) for name in names}
    scores = {
        name: IntervalScores.none(intervals.levels, groups=groups.number, horizon=horizon)
        for name, intervals in references.intervals.items()
    }
    for some in iterate_rollouts(model, baselines, sequences, warmup=warmup, horizon=horizon, stride=horizon):
        group, forecasts = groups.find(some.episodes, some.steps), some.forecasts
        spread = None if some.spread is None else some.spread.double().numpy()
        if calibration:
            given = calibration.limits(forecasts[MODEL].numpy(), spread)[0]
            forecasts[CALIBRATED] = torch.from_numpy(given)
        for name in names:
            error = forecasts[name].double() - some.truth
            errors[name].add(group, error)
            np.add.at(valid[name], (group.numpy(), valid_steps(error, threshold=VALID_BELOW).numpy()), 1)
        truth = some.truth.double().numpy()
        for name, intervals in references.intervals.items():
            raw = forecasts[MODEL if name in (CALIBRATED, CLIMATOLOGY) else name]
            scores[name].add(intervals, raw.double().numpy(), spread, truth, group.numpy())
    return OpenLoop(warmup=warmup, errors=errors, valid=valid, intervals=scores)


def valid_steps(error: Tensor, *, threshold: float) -> Tensor:
    """Count the steps before the root mean square over features of scaled errors (B, H, F) exceeds a threshold.

    >>> valid_steps(torch.tensor([[[0.1], [0.6], [0.1]], [[0.1], [0.2], [0.3]]]), threshold=0.5).tolist()
    [1, 3]
    """
    within = error.square().mean(dim=-1).sqrt() <= threshold  # (B, H); a NaN is not within
    return within.long().cumprod(dim=1).sum(dim=1)
