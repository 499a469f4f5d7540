"""Ridge regression of the next step on the last p steps, in closed form.

Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", section 3.4.1: W = (XᵀX + λ n)⁻¹ XᵀY on
centred X and Y, with an intercept that is not penalised. X holds scaled values and covariates, so one strength
λ suits all of them, and λ is per row, so it means the same whatever the number of rows.

Shapes: n rows, p steps, D inputs per step (features and covariates), F features.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.evaluation.chunks import Scalings, num_targets, pieces

LAGS = (1, 2, 4, 8)
# Smooth signals at 100 Hz differ little from step to step, and what is foretold lies in these differences:
# hence such small ones.
STRENGTHS = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
MOST_INPUTS = 2048  # of a regression, p D: beyond, the normal equations take seconds and gigabytes


class Ridge(NamedTuple):
    """A fitted regression: forecast = bias + Σ x_{t−p+1+k} weights[k]."""

    p: int
    strength: float
    weights: Tensor  # (p, D, F)
    bias: Tensor  # (F,)


def fit_ridge(train: Sequences, valid: Sequences, *, scalings: Scalings, longest: int) -> Ridge:
    """The regression with the smallest one-step error on the validation part.

    All candidates are judged on the same steps: those that the one with the longest history can forecast.
    No regression reaches across the border of an episode.

    Args:
        train: Fitted to.
        valid: Chosen on.
        scalings: Units of inputs and forecasts.
        longest: p at most.

    Raises:
        ValueError: If no episode of a part has a step with a next one.
    """
    width = train.values.shape[1] + train.covariates.shape[1]
    room = min(int(num_targets(part).max(initial=0)) for part in (train, valid))
    lags = [p for p in LAGS if p <= min(room, longest) and (p == 1 or p * width <= MOST_INPUTS)]
    if not lags:
        raise ValueError("a regression on the last step needs episodes of two rows at least")
    candidates = [ridge for p in lags for ridge in _solve(train, p, scalings)]
    errors = torch.zeros(len(candidates), dtype=torch.float64)
    for inputs, target in _rows(valid, max(lags), scalings):
        for number, (p, _, weights, bias) in enumerate(candidates):
            forecast = inputs[:, -p * width :] @ weights.flatten(0, 1) + bias
            errors[number] += (forecast - target).square().sum()
    return candidates[int(errors.argmin())]


def _solve(train: Sequences, p: int, scalings: Scalings) -> Iterator[Ridge]:
    """One regression for each strength, from one pass over the rows and one eigendecomposition."""
    gram, cross = _normal_equations(train, p, scalings)
    n = gram[-1, -1]
    mean_x, mean_y = gram[-1, :-1] / n, cross[-1] / n  # the last input is 1
    centred = gram[:-1, :-1] - n * torch.outer(mean_x, mean_x)
    eigenvalues, vectors = torch.linalg.eigh(centred)
    projected = vectors.T @ (cross[:-1] - n * torch.outer(mean_x, mean_y))
    for strength in STRENGTHS:
        weights = vectors @ (projected / (eigenvalues.clamp(min=0) + strength * n)[:, None])  # (p D, F)
        yield Ridge(p, strength, weights.reshape(p, -1, weights.shape[1]), mean_y - mean_x @ weights)


def _normal_equations(train: Sequences, p: int, scalings: Scalings) -> tuple[Tensor, Tensor]:
    """XᵀX (p D + 1, p D + 1) and XᵀY (p D + 1, F), the last input being 1."""
    inputs, num_features = p * (train.values.shape[1] + train.covariates.shape[1]) + 1, train.values.shape[1]
    gram = torch.zeros(inputs, inputs, dtype=torch.float64)
    cross = torch.zeros(inputs, num_features, dtype=torch.float64)
    for x, y in _rows(train, p, scalings):
        with_one = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        gram += with_one.T @ with_one
        cross += with_one.T @ y
    return gram, cross


def _rows(sequences: Sequences, p: int, scalings: Scalings) -> Iterator[tuple[Tensor, Tensor]]:
    """The last p steps (n, p D) before each next step (n, F), in double precision."""
    for piece in pieces(sequences, scalings=scalings, history=p, back=p - 1):
        inputs, steps = scalings.inputs(piece.x, piece.covariates), piece.counted.shape[1]
        lagged = torch.stack([inputs[:, lag : lag + steps] for lag in range(p)], dim=2)  # (B, S, p, D)
        yield lagged.flatten(2)[piece.counted], piece.targets.double()[piece.counted]
