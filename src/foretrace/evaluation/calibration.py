"""How wrong forecasts may be, measured on the validation part: shrinkage, and intervals by split conformal prediction.

Shapes: N starts, H steps ahead, F features, L levels, K groups of starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from foretrace.config import Evaluation
from foretrace.data.sequences import Sequences
from foretrace.evaluation.baselines import LinearForecast
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import FEWEST, MODEL, FloatArray, Groups, IntArray
from foretrace.evaluation.rollout import iterate_rollouts, rollout_unavailable
from foretrace.model.next_step import NextStepModel

STARTS_PER_HORIZON = 5  # starts overlap so that each step ahead is seen at many phases of a recording
MOST_VALUES = 30_000_000  # of errors held at once, N H F
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """What is added to a forecast so that it says how wrong it may be; all in scaled units.

    A rollout f becomes center + shrinkage (f − center): a forecast that may be wrong moves towards the training
    mean. The interval of a level is that point ± half-width, times spread ** exponent where the model gives a spread.
    Beyond H steps ahead, shrinkage, half-width and spread of step H are used.
    """

    levels: tuple[float, ...]  # L, share of the truth that each interval is to cover, in percent, ascending
    center: Array  # (F,), the training mean
    shrinkage: Array  # (H, F), within 0 to 1
    half_width: Array  # (L, H, F)
    # (H, F), within 0 to 1, how far the width follows a spread, if there is one.
    exponent: Array | None = None
    warmup: int  # steps that were read before each start
    starts: int  # forecasts that it was fitted to, N
    groups: int  # recordings, or stretches of time, that these come from
    by: str  # which of the two: `recording` or `time`
    independent: float  # so many independent forecasts tell as much, see `fit`; the fewest over features
    unavailable: tuple[float, ...] = ()  # levels in percent that would need more groups

    @property
    def horizon(self) -> int:
        """Steps ahead that it was fitted for, H."""
        return len(self.shrinkage)

    @property
    def origin(self) -> str:
        """What it was fitted to, in words."""
        what = {"recording": "recordings", "time": "stretches of time"}[self.by]
        return f"{self.starts:,} forecasts in {self.groups:,} {what} of the validation part"

    def limits(self, forecast: Array, spread: Array | None = None) -> tuple[Array, Array, Array]:
        """Return point (N, H, F), lower and upper limits (L, N, H, F) for a rollout and its spread, each (N, H, F)."""
        steps = np.minimum(np.arange(forecast.shape[-2]), self.horizon - 1)
        point = self.center + self.shrinkage[steps] * (forecast - self.center)
        width = self.half_width[:, steps][:, None]
        if self.exponent is not None:
            assert spread is not None, "it was fitted to forecasts with a spread"
            width = width * spread[:, steps] ** self.exponent[steps]
        return point, point - width, point + width

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return what a model file keeps as arrays."""
        names = ("center", "shrinkage", "half_width", "exponent")
        found = {name: getattr(self, name) for name in names}
        return {name: np.asarray(array, np.float32) for name, array in found.items() if array is not None}

    def facts(self) -> dict[str, Any]:
        """Return what a model file keeps as text, in plain JSON."""
        names = ("levels", "warmup", "starts", "groups", "by", "independent", "unavailable")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> "Calibration | None":
        """Return what `facts` and `arrays` were made from; None of empty ones.

        Raises:
            ValueError: If they do not fit together.
        """
        if not facts:
            return None
        try:
            given: dict[str, Any] = {**facts, **arrays}
            found = cls(**given | {name: tuple(facts[name]) for name in ("levels", "unavailable")})
            steps, features = found.shrinkage.shape
            sound = found.half_width.shape == (len(found.levels), steps, features) and steps > 0
            sound &= found.exponent is None or found.exponent.shape == (steps, features)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no calibration ({error})") from error
        if not sound or found.center.shape != (features,):
            raise ValueError("a calibration whose arrays do not fit together")
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Climatology:
    """Quantiles of the training part, whatever came before: intervals that cost nothing."""

    levels: tuple[float, ...]  # L, in percent
    median: FloatArray  # (F,)
    lower: FloatArray  # (L, F)
    upper: FloatArray  # (L, F)

    @classmethod
    def of(cls, values: FloatArray, *, levels: Sequence[float]) -> "Climatology":
        """Return the quantiles of scaled values (rows, F)."""
        tails = (1 - np.asarray(levels) / 100) / 2
        ends = [np.quantile(values, share, axis=0) for share in (tails, 1 - tails)]
        return cls(levels=tuple(levels), median=np.median(values, axis=0), lower=ends[0], upper=ends[1])

    def limits(self, forecast: Array, spread: Array | None = None) -> tuple[Array, Array, Array]:
        """Return the same for every forecast (N, H, F)."""
        every = (len(self.levels), *forecast.shape)
        point = np.broadcast_to(self.median, forecast.shape)
        lower, upper = (np.broadcast_to(end[:, None, None], every) for end in (self.lower, self.upper))
        return point, lower, upper


Intervals = Calibration | Climatology


def calibrate(
    model: NextStepModel,
    baselines: Sequence[LinearForecast],
    *,
    train: Sequences,
    valid: Sequences,
    settings: Evaluation,
) -> tuple[dict[str, Calibration], str]:
    """Fit a calibration to rollouts of the validation part: of the model, and of baselines (not shrunk).

    Where validation episodes are shorter than warm-up and horizon, the horizon is cut.

    Returns:
        Calibrations by name; or none, and the reason.
    """
    warmup, longest = settings.warmup, int(valid.lengths.max(initial=0))
    horizon = max(1, min(settings.horizon, longest - warmup))
    if reason := rollout_unavailable(valid, warmup=warmup, horizon=horizon):
        return {}, reason
    rows, features = int(valid.lengths.sum()), valid.values.shape[1]
    stride = max(1, horizon // STARTS_PER_HORIZON, -(-rows * horizon * features // MOST_VALUES))
    found = list(iterate_rollouts(model, baselines, valid, warmup=warmup, horizon=horizon, stride=stride))
    center = Scalings.of(model).values(torch.from_numpy(train.statistics.mean)).double().numpy()
    grouping = Groups.of(valid, stretch=horizon)
    group = torch.cat([grouping.find(some.episodes, some.steps) for some in found]).numpy()
    spreads = [some.spread for some in found if some.spread is not None]
    truth = torch.cat([some.truth for some in found]).numpy()
    calibrations = {}
    for name in (MODEL, *(baseline.name for baseline in baselines)):
        fitted = fit(
            torch.cat([some.forecasts[name].float() for some in found]).numpy(),
            truth,
            group,
            spread=torch.cat(spreads).float().numpy() if name == MODEL and spreads else None,
            levels=settings.levels,
            center=center,
            shrink=name == MODEL and len(np.unique(group)) >= FEWEST,
        )
        calibrations[name] = replace(fitted, warmup=warmup, by=grouping.by)
    return calibrations, ""


def fit(
    forecast: Array,
    truth: Array,
    group: IntArray,
    *,
    levels: Sequence[float],
    center: Array,
    shrink: bool,
    spread: Array | None = None,
) -> Calibration:
    """Fit shrinkage and half-widths, each per feature and step ahead.

    The shrinkage is that of least squares, kept within 0 to 1; of fewer than five recordings it would fit their errors
    away. A half-width is a quantile of the absolute errors of the shrunk forecast (split conformal prediction: Lei et
    al., JASA 113, 2018). Forecasts from one recording resemble each other, so each recording's errors together weigh
    as much as those of any other (pooled distribution functions: Dunn, Wasserman & Ramdas, JASA 118, 2023), and the
    finite-sample correction counts n independent errors, with the quantile at level (n + 1) / n: n is the level's
    variance level (1 − level) divided by the variance of its estimate over recordings (Kish's effective sample size),
    at most N. Of fewer than five recordings n is their number: that is hierarchical conformal prediction (Lee, Barber
    & Willett, 2023), whose coverage of another recording is guaranteed. A level that would need more than the largest
    error has no interval. Where the model gives a spread, errors are divided by spread ** exponent first (locally
    weighted: Lei et al., 5.2), with the slope of log error over log spread: a spread that tells nothing of the errors
    leaves widths as they are.

    Forecast, truth and spread (> 0) have shape (N, H, F), ``group`` is the recording of each start (N,), levels are in
    percent, and the center (F,) is what is shrunk towards, if ``shrink``.
    """
    count, steps, features = forecast.shape
    numbers, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    share = 1 / (len(numbers) * sizes[group])  # (N,), 1 together
    shrinkage, widths = np.ones((steps, features)), np.zeros((len(levels), steps, features))
    exponent = None if spread is None else np.zeros((steps, features))
    independent = np.full((len(levels), features), float(len(numbers)))
    for f in range(features):
        ahead, came = forecast[:, :, f] - center[f], truth[:, :, f].astype(np.float64) - center[f]
        if shrink:
            shrinkage[:, f] = _slope(ahead, came, otherwise=1.0)
        score = np.abs(shrinkage[:, f] * ahead - came)  # (N, H)
        if spread is not None and exponent is not None:
            log_spread = np.log(spread[:, :, f])
            log_spread -= log_spread.mean(axis=0)
            exponent[:, f] = _slope(log_spread, np.log(score + 1e-6), otherwise=0.0)  # an error may be zero
            score = score / spread[:, :, f] ** exponent[:, f]
        order = np.argsort(score, axis=0)
        ordered, reached = np.take_along_axis(score, order, axis=0), np.cumsum(share[order], axis=0)
        for number, level in enumerate(np.asarray(levels) / 100):
            if len(numbers) >= FEWEST:
                within = score <= _quantile(ordered, reached, level)
                independent[number, f] = _effective_number(within, group, sizes, level)
            target = level * (1 + 1 / independent[number, f])
            widths[number, :, f] = _quantile(ordered, reached, target) if target <= 1 else np.inf
    kept = [bool(np.isfinite(width).all()) for width in widths]
    return Calibration(
        levels=tuple(level for level, known in zip(levels, kept, strict=True) if known),
        center=np.asarray(center, np.float64),
        shrinkage=shrinkage,
        half_width=widths[kept],
        exponent=exponent,
        warmup=0,
        starts=count,
        groups=len(numbers),
        by="recording",
        independent=float(independent.min()),
        unavailable=tuple(level for level, known in zip(levels, kept, strict=True) if not known),
    )


def _slope(x: Array, y: Array, *, otherwise: float) -> Array:
    """Return the slope of y over x, each (N, H), by least squares and within 0 to 1. Shape (H,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (x * y).sum(axis=0) / np.square(x, dtype=np.float64).sum(axis=0)
    return np.asarray(np.clip(np.nan_to_num(slope, nan=otherwise), 0, 1))


def _quantile(ordered: Array, reached: Array, target: float) -> Array:
    """Return the first of the ordered scores (N, H) at which the weights reach the target. Shape (H,)."""
    at = np.minimum((reached < target - 1e-9).sum(axis=0), len(ordered) - 1)
    return cast(Array, np.take_along_axis(ordered, at[None], axis=0)[0])


def _effective_number(within: Array, group: IntArray, sizes: IntArray, level: float) -> float:
    """Return how many independent errors would tell the share within (N, H) as well as these; K to N."""
    shares = np.zeros((len(sizes), within.shape[1]))
    np.add.at(shares, group, within)
    shares /= sizes[:, None]
    variance = float(shares.var(axis=0, ddof=1).mean()) / len(sizes)
    return float(np.clip(level * (1 - level) / max(variance, 1e-12), len(sizes), len(within)))
