"""What forecasts are held against, and with which intervals: fitted before the test part is read."""

from dataclasses import dataclass, field

import torch

from foretrace.config import Evaluation
from foretrace.data.sequences import Sequences
from foretrace.evaluation.baselines import LAGS, SEASONAL, LinearForecast, fit_baselines, naive_error
from foretrace.evaluation.boosting import Boosting
from foretrace.evaluation.calibration import Calibration, Climatology, Intervals, calibrate
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import CALIBRATED, CLIMATOLOGY, MODEL, FloatArray
from foretrace.model.next_step import NextStepModel

MOST_ROWS = 200_000  # of the training part, for its quantiles


@dataclass(frozen=True, eq=False, kw_only=True)
class References:
    """Baselines, the model's calibration, and all intervals that are compared.

    Args:
        baselines: Fitted to the training part, chosen on the validation part.
        calibration: Of the model; None where there is none.
        boosting: Gradient boosting one step and the farthest ahead; None where it was not asked for.
        naive: Mean absolute error of a naive forecast in training, in scaled units. Shape (F,).
        intervals: By the name of the forecast, ``calibrated`` first; all of the same levels.
        unavailable: Why there is no calibration, or no interval of some level.
    """

    baselines: tuple[LinearForecast, ...]
    calibration: Calibration | None
    naive: FloatArray | None = None
    boosting: Boosting | None = None
    intervals: dict[str, Intervals] = field(default_factory=dict)
    unavailable: str = ""


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
