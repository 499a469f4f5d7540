"""How far ahead a forecast can see, and how wrong it may be there.

Shapes: W steps of warm-up, H steps ahead, G groups, F features.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.evaluation.forecast_errors import (
    CALIBRATED,
    CLIMATOLOGY,
    MODEL,
    ErrorSums,
    ForecastErrors,
    Groups,
    IntArray,
)
from foretrace.evaluation.interval_scores import IntervalScores
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


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenLoop:
    """Open-loop errors of the model and of all baselines, from the same starts.

    Args:
        warmup: Steps read before each start, W; the state is zero before them.
        threshold: Below which a forecast is called valid, in training standard deviations.
        errors: By the name of the forecast, the model's first; in scaled units. Shapes (G, H, F). ``calibrated`` is
            what a forecast of the model gives, ``model`` the same before the calibration.
        valid: How many starts of each group stay valid for 0 ... H steps, H meaning to the end at least.
            Shapes (G, H + 1).
        intervals: By the name of the forecast, ``calibrated`` first; empty where there are none.

    >>> two_starts = ForecastErrors(squared=np.ones((1, 3, 1)), absolute=np.ones((1, 3, 1)), count=np.array([2]))
    >>> loop = OpenLoop(warmup=5, threshold=0.5, errors={"model": two_starts}, valid={})
    >>> loop.horizons, loop.num_starts
    ((1, 2, 3), 2)
    """

    warmup: int
    threshold: float
    errors: dict[str, ForecastErrors]
    valid: dict[str, IntArray]
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


def evaluate_open_loop(
    model: NextStepModel,
    references: References,
    sequences: Sequences,
    groups: Groups,
    *,
    warmup: int,
    horizon: int,
    threshold: float = VALID_BELOW,
) -> OpenLoop:
    """Evaluate rollouts that tile each episode: a start every ``horizon`` steps; see `iterate_rollouts`."""
    baselines, calibration = references.baselines, references.calibration
    names = [MODEL, *([CALIBRATED] if calibration else []), *(baseline.name for baseline in baselines)]
    sums = {name: ErrorSums(groups.number, (horizon, sequences.values.shape[1])) for name in names}
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
            sums[name].add(group, error)
            np.add.at(valid[name], (group.numpy(), valid_steps(error, threshold=threshold).numpy()), 1)
        truth = some.truth.double().numpy()
        for name, intervals in references.intervals.items():
            raw = forecasts[MODEL if name in (CALIBRATED, CLIMATOLOGY) else name]
            scores[name].add(intervals, raw.double().numpy(), spread, truth, group.numpy())
    errors = {name: total.errors() for name, total in sums.items()}
    return OpenLoop(warmup=warmup, threshold=threshold, errors=errors, valid=valid, intervals=scores)


def valid_steps(error: Tensor, *, threshold: float) -> Tensor:
    """Count the steps before the root mean square over features of scaled errors (B, H, F) exceeds a threshold.

    >>> valid_steps(torch.tensor([[[0.1], [0.6], [0.1]], [[0.1], [0.2], [0.3]]]), threshold=0.5).tolist()
    [1, 3]
    """
    within = error.square().mean(dim=-1).sqrt() <= threshold  # (B, H); a NaN is not within
    return within.long().cumprod(dim=1).sum(dim=1)
