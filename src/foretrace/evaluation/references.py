"""What forecasts are held against, and with which intervals: fitted before the test part is read.

Shapes: N rows, P lags, W steps of warm-up, H steps ahead, G groups, F features, K covariates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from foretrace.config import Evaluation
from foretrace.data.progress import track
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import LAGS, SEASONAL, LinearForecast, fit_baselines, naive_error
from foretrace.evaluation.calibration import Calibration, Climatology, Intervals, calibrate
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import (
    CALIBRATED,
    CLIMATOLOGY,
    MODEL,
    FloatArray,
    ForecastErrors,
    Groups,
)
from foretrace.model.next_step import NextStepModel

MOST_ROWS = 200_000  # of the training part, for its quantiles
MOST_PAIRS, AT_ONCE = 20_000, 4096  # of the training part, for gradient boosting


@dataclass(frozen=True, eq=False, kw_only=True)
class Boosting:
    """Forecasts of certain steps ahead, each made directly from the last rows and their covariates."""

    regressors: dict[int, Any]  # by steps ahead
    scalings: Scalings  # of what they read and forecast
    lags: int  # rows that they read, P

    @classmethod
    def fit(cls, train: Sequences, *, scalings: Scalings, lags: int, ahead: Sequence[int]) -> "Boosting":
        """Fit scikit-learn's histogram gradient boosting with its own settings to at most 20,000 rows."""
        # Takes a second to import, and few ask for it.
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.multioutput import MultiOutputRegressor

        regressors, stride = {}, max(1, train.num_rows // MOST_PAIRS)
        for steps in track(ahead, "boosting, one step ahead and the farthest"):
            windows = Windows(train, length=lags + steps - 1, stride=stride)
            regressor = MultiOutputRegressor(HistGradientBoostingRegressor(random_state=0))
            regressors[steps] = regressor.fit(*_pairs(windows, scalings, lags, lags, steps))
        return cls(regressors=regressors, scalings=scalings, lags=lags)

    def evaluate(
        self, sequences: Sequences, groups: Groups, *, warmup: int, horizon: int
    ) -> dict[int, ForecastErrors]:
        """Return errors (G, F) by steps ahead, from the starts of the open loop."""
        windows = Windows(sequences, length=warmup + horizon - 1, stride=horizon)
        origins = windows.origins(torch.arange(len(windows)))
        group = groups.find(origins[:, 0], origins[:, 1] + warmup - 1)
        errors = {}
        for steps, regressor in self.regressors.items():
            inputs, targets = _pairs(windows, self.scalings, self.lags, warmup, steps)
            errors[steps] = ForecastErrors.none(groups.number, targets.shape[1:])
            errors[steps].add(group, torch.from_numpy(regressor.predict(inputs) - targets))
        return errors


def _pairs(
    windows: Windows, scalings: Scalings, lags: int, warmup: int, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Return the last rows before step W (N, P (F + K)), and what came so many steps after (N, F)."""
    inputs, targets, read = [], [], slice(warmup - lags, warmup)
    for chosen in torch.split(torch.arange(len(windows)), AT_ONCE):
        batch = windows.gather(chosen)
        rows = scalings.inputs(scalings.values(batch.values[:, read]), batch.covariates[:, read])
        inputs.append(rows.flatten(1))
        targets.append(scalings.values(batch.targets[:, warmup + steps - 2]).double())
    return torch.cat(inputs).numpy(), torch.cat(targets).numpy()


@dataclass(frozen=True, eq=False, kw_only=True)
class References:
    """Baselines, the model's calibration, and all intervals that are compared."""

    baselines: tuple[LinearForecast, ...]  # fitted to the training part, chosen on the validation part
    calibration: Calibration | None  # of the model
    naive: FloatArray | None = None  # (F,), mean absolute error of a naive forecast in training, scaled
    boosting: Boosting | None = None  # one step and the farthest ahead, where it was asked for
    # By the name of the forecast, `calibrated` first; all of the same levels.
    intervals: dict[str, Intervals] = field(default_factory=dict)
    unavailable: str = ""  # why there is no calibration, or no interval of some level


def fit_references(
    model: NextStepModel, *, train: Sequences, valid: Sequences, settings: Evaluation
) -> References:
    """Fit baselines to the training part, and calibrations to the validation part."""
    scalings = Scalings.of(model)
    baselines = fit_baselines(
        train, valid, scalings=scalings, longest=settings.warmup, season=settings.season
    )
    season = next((baseline.context for baseline in baselines if baseline.name == SEASONAL), 1)
    naive = naive_error(train, scalings=scalings, season=season)
    boosting = None
    if settings.boosting:
        lags, ahead = min(LAGS[-1], settings.warmup), sorted({1, settings.horizon})
        boosting = Boosting.fit(train, scalings=scalings, lags=lags, ahead=ahead)
    with_intervals = [b for b in baselines if b.name not in ("mean", "velocity")]
    found, unavailable = calibrate(model, with_intervals, train=train, valid=valid, settings=settings)
    calibration = found.pop(MODEL, None)
    if calibration and (few := calibration.unavailable):
        levels = ", ".join(f"{level:g} %" for level in few)
        unavailable = f"none of {levels}: too few validation recordings"
    intervals: dict[str, Intervals] = {}
    if calibration and calibration.levels:
        rows = torch.from_numpy(train.values[:: -(-len(train.values) // MOST_ROWS)])
        climatology = Climatology.of(scalings.values(rows).double().numpy(), levels=calibration.levels)
        same = {name: theirs for name, theirs in found.items() if theirs.levels == calibration.levels}
        intervals = {CALIBRATED: calibration, CLIMATOLOGY: climatology, **same}
    return References(
        baselines=baselines,
        calibration=calibration,
        naive=naive,
        boosting=boosting,
        intervals=intervals,
        unavailable=unavailable,
    )
