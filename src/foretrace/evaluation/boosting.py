"""Gradient boosting on the last rows: a strong opponent that knows nothing of sequences.

Shapes: N rows, P lags, W steps of warm-up, H steps ahead, G groups, F features, K covariates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import FloatArray, ForecastErrors, Groups
from foretrace.evaluation.progress import track

MOST_ROWS, AT_ONCE = 20_000, 4096


@dataclass(frozen=True, eq=False, kw_only=True)
class Boosting:
    """Forecasts of certain steps ahead, each made directly from the last rows and their covariates.

    Args:
        regressors: One for each feature, by steps ahead.
        scalings: Of what they read and forecast.
        lags: Rows that they read, P.
    """

    regressors: dict[int, list[Any]]
    scalings: Scalings
    lags: int

    @classmethod
    def fit(cls, train: Sequences, *, scalings: Scalings, lags: int, ahead: Sequence[int]) -> "Boosting":
        """Fit scikit-learn's histogram gradient boosting with its own settings to at most 20,000 rows."""
        # Takes a second to import, and few ask for it.
        from sklearn.ensemble import HistGradientBoostingRegressor

        regressors, stride = {}, max(1, train.num_rows // MOST_ROWS)
        for steps in ahead:
            windows = Windows(train, length=lags + steps - 1, stride=stride)
            inputs, targets = _pairs(windows, scalings, lags, lags, steps)
            regressors[steps] = [
                HistGradientBoostingRegressor(random_state=0).fit(inputs, targets[:, f])
                for f in track(range(targets.shape[1]), f"boosting, {steps} steps ahead")
            ]
        return cls(regressors=regressors, scalings=scalings, lags=lags)

    def evaluate(
        self, sequences: Sequences, groups: Groups, *, warmup: int, horizon: int
    ) -> dict[int, ForecastErrors]:
        """Return errors (G, F) by steps ahead, from the starts of the open loop."""
        windows = Windows(sequences, length=warmup + horizon - 1, stride=horizon)
        origins = windows.origins(torch.arange(len(windows)))
        group = groups.find(origins[:, 0], origins[:, 1] + warmup - 1)
        errors = {}
        for steps, regressors in self.regressors.items():
            inputs, targets = _pairs(windows, self.scalings, self.lags, warmup, steps)
            forecast = np.stack([regressor.predict(inputs) for regressor in regressors], axis=1)
            errors[steps] = ForecastErrors.none(groups.number, targets.shape[1:])
            errors[steps].add(group, torch.from_numpy(forecast - targets))
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
