"""Forecasts that cost nothing: what a model has to be better than.

Shapes: B forecasts, T steps, W steps of warm-up, H steps ahead, C steps of context, n rows, p lags, F features,
K covariates, D = F + K.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.evaluation.chunks import Scalings, read_chunks
from foretrace.evaluation.forecast_errors import FloatArray

PERSISTENCE, SEASONAL = "persistence", "seasonal"
LAGS = (1, 2, 4, 8)
# Smooth signals at 100 Hz differ little from step to step, and what is forecast lies in these differences:
# hence such small ones.
STRENGTHS = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
MOST_ROWS = 100_000  # of the training part, for its season
CLEAR = 0.3  # autocorrelation of a season, on average over features: a tenth of the variance
MOST_INPUTS = 2048  # of a regression, p D: beyond, the normal equations take seconds and gigabytes


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearForecast:
    """The next step as a linear function of the last few: all baselines are of this one form.

    All is in the model's scaled units and in double precision on the CPU, so that nothing but the forecast
    itself differs between two baselines.

    >>> eye = torch.eye(1, dtype=torch.float64)
    >>> velocity = LinearForecast(name="velocity", weights=torch.stack([-eye, 2 * eye]), bias=torch.zeros(1))
    >>> velocity.context, velocity.steps(torch.tensor([[[1.0], [4.0], [6.0]]])).flatten().tolist()
    (2, [7.0, 8.0])
    """

    name: str  # by which it is tracked
    weights: Tensor  # (C, D, F), the last of them belong to the present step
    bias: Tensor  # (F,)
    chosen: str = ""  # what was chosen on training or validation data, for people

    @property
    def context(self) -> int:
        """Steps that it reads, the present one included, C."""
        return len(self.weights)

    def steps(self, inputs: Tensor) -> Tensor:
        """Forecast one step ahead, (B, T - C + 1, F), from inputs (B, T, D) that have enough before them.

        See `Scalings.inputs`.
        """
        many = inputs.shape[1] - self.context + 1
        forecast = self.bias.expand(len(inputs), many, -1)
        for lag, weight in enumerate(self.weights):
            if weight.any():
                forecast = forecast + inputs[:, lag : lag + many].double() @ weight
        return forecast

    def rollout(self, x: Tensor, covariates: Tensor, *, horizon: int) -> Tensor:
        """Read the end of a warm-up, scaled (B, W, F), and let forecasts (B, H, F) feed on themselves.

        Covariates (B, W + H - 1, K) are scaled, too.
        """
        context, warmup = self.context, x.shape[1]
        values = torch.empty(len(x), context + horizon, x.shape[2], dtype=torch.float64)
        values[:, :context] = x[:, warmup - context :]
        for step in range(horizon):
            known = covariates[:, warmup - context + step : warmup + step].double()
            history = torch.cat([values[:, step : step + context], known], dim=-1)
            values[:, context + step] = self.steps(history)[:, 0]
        return values[:, context:]


def fit_baselines(
    train: Sequences, valid: Sequences, *, scalings: Scalings, longest: int, season: int | None = None
) -> tuple[LinearForecast, ...]:
    """Fit all baselines to the training part, and choose among ridge regressions on the validation part.

    - ``persistence`` repeats the last value;
    - ``velocity`` repeats the last change: x_t + (x_t - x_{t-1}), over the last two rows that were kept;
    - ``mean`` is the training mean, whatever came before;
    - ``seasonal`` repeats the value of a season ago, where there is a season;
    - ``ridge`` regresses on the last p steps, see `fit_ridge`.

    None reads more than ``longest`` >= 2 steps of history. Without a season, one is looked for, see `find_season`.
    """
    num_features, num_covariates = train.values.shape[1], train.covariates.shape[1]
    present = torch.eye(num_features + num_covariates, num_features, dtype=torch.float64)  # (D, F)
    zero = torch.zeros(num_features, dtype=torch.float64)
    mean = scalings.values(torch.from_numpy(train.statistics.mean)).double()
    seasonal = []
    if steps := season or find_season(train, longest=longest):
        weights = torch.zeros(steps, *present.shape, dtype=torch.float64)
        weights[0] = present
        chosen = f"{steps} steps, {'as given' if season else 'from the autocorrelation of the training part'}"
        seasonal = [LinearForecast(name=SEASONAL, weights=weights, bias=zero, chosen=chosen)]
    return (
        LinearForecast(name=PERSISTENCE, weights=present[None], bias=zero),
        LinearForecast(name="velocity", weights=torch.stack([-present, 2 * present]), bias=zero),
        LinearForecast(name="mean", weights=0 * present[None], bias=mean),
        *seasonal,
        fit_ridge(train, valid, scalings=scalings, longest=longest),
    )


def find_season(train: Sequences, *, longest: int) -> int | None:
    """Return the first lag up to ``longest`` at which the mean autocorrelation of the features has a clear peak.

    None if it has none in the first rows.
    """
    fewest = int(np.searchsorted(train.bounds[:, 1], MOST_ROWS)) + 1
    episodes = [train.values[first : min(end, first + MOST_ROWS)] for first, end in train.bounds[:fewest]]
    rows = np.concatenate(episodes, dtype=np.float64)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scaled = [(episode - mean) / np.where(scale > 0, scale, 1) for episode in episodes]
    lags = range(1, min(longest + 1, max(map(len, scaled)) // 2) + 1)
    found = np.zeros(len(lags))
    for place, lag in enumerate(lags):
        products = [(one[lag:] * one[:-lag]).mean(axis=1) for one in scaled if len(one) > lag]
        found[place] = np.concatenate(products).mean()
    peaks = 1 + np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] >= found[2:]))
    if not len(peaks) or (best := float(found[peaks].max())) < CLEAR:
        return None
    return int(lags[int(peaks[found[peaks] > 0.9 * best][0])])  # multiples of a season peak as well


def naive_error(train: Sequences, *, scalings: Scalings, season: int) -> FloatArray:
    """Return the mean absolute error of repeating the value of a season ago in training. Shape (F,).

    The unit of the mean absolute scaled error (MASE; Hyndman & Koehler, International Journal of Forecasting 22, 2006).
    """
    total, count = np.zeros(train.values.shape[1]), 0
    for first, end in train.bounds[train.lengths > season]:
        for start in range(first, end - season, MOST_ROWS):
            stop = min(start + MOST_ROWS, end - season)
            later = train.values[start + season : stop + season].astype(np.float64)
            change = later - train.values[start:stop]
            total += np.abs(change).sum(axis=0)
            count += len(change)
    return np.asarray(total / max(count, 1) / scalings.values.scale.double().numpy())


def fit_ridge(train: Sequences, valid: Sequences, *, scalings: Scalings, longest: int) -> LinearForecast:
    """Return the ridge regression on the last p steps with the smallest one-step error on the validation part.

    Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", section 3.4.1, on centered rows with an
    intercept that is not penalized. All inputs are scaled, so one strength suits all of them, and it is per row,
    so it means the same whatever their number. All candidates are tried on the same steps, and none reaches
    across the border of an episode.

    Written out rather than scikit-learn's ``Ridge``: the normal equations are summed up chunk by chunk, so rows
    may exceed memory, and one eigendecomposition serves all strengths.
    """
    width = train.values.shape[1] + train.covariates.shape[1]
    room = min(int(part.num_targets.max(initial=0)) for part in (train, valid))
    lags = [p for p in LAGS if p <= min(room, longest) and (p == 1 or p * width <= MOST_INPUTS)]
    candidates = [ridge for p in lags for ridge in _solve(train, p, scalings)]
    errors = torch.zeros(len(candidates), dtype=torch.float64)
    for inputs, target in _rows(valid, max(lags), scalings):
        for number, ridge in enumerate(candidates):
            forecast = inputs[:, -ridge.context * width :] @ ridge.weights.flatten(0, 1) + ridge.bias
            errors[number] += (forecast - target).square().sum()
    return candidates[int(errors.argmin())]


def _solve(train: Sequences, p: int, scalings: Scalings) -> Iterator[LinearForecast]:
    """Solve for each strength, from one pass over the rows and one eigendecomposition."""
    inputs, num_features = p * (train.values.shape[1] + train.covariates.shape[1]) + 1, train.values.shape[1]
    gram = torch.zeros(inputs, inputs, dtype=torch.float64)  # the last input is 1
    cross = torch.zeros(inputs, num_features, dtype=torch.float64)
    for x, y in _rows(train, p, scalings):
        with_one = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        gram += with_one.T @ with_one
        cross += with_one.T @ y
    n = gram[-1, -1]
    mean_x, mean_y = gram[-1, :-1] / n, cross[-1] / n
    eigenvalues, vectors = torch.linalg.eigh(gram[:-1, :-1] - n * torch.outer(mean_x, mean_x))
    projected = vectors.T @ (cross[:-1] - n * torch.outer(mean_x, mean_y))
    for strength in STRENGTHS:
        weights = vectors @ (projected / (eigenvalues.clamp(min=0) + strength * n)[:, None])  # (p D, F)
        yield LinearForecast(
            name="ridge",
            weights=weights.reshape(p, -1, num_features),
            bias=mean_y - mean_x @ weights,
            chosen=f"last {p} steps, strength {strength:g}",
        )


def _rows(sequences: Sequences, p: int, scalings: Scalings) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over the last p steps (n, p D) before each next step (n, F), in double precision."""
    what = "fitting baselines"
    for chunk in read_chunks(sequences, scalings=scalings, history=p, lookback=p - 1, what=what):
        inputs, steps = scalings.inputs(chunk.x, chunk.covariates), chunk.mask.shape[1]
        lagged = torch.stack([inputs[:, lag : lag + steps] for lag in range(p)], dim=2)  # (B, S, p, D)
        yield lagged.flatten(2)[chunk.mask], chunk.targets.double()[chunk.mask]
