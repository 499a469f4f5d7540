"""A trained model for whoever wants forecasts: rows in, rows out, in the data's own units.

Shapes: T rows, F features, K covariates, C = F + K columns, H steps ahead.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from foretrace.errors import UserError
from foretrace.model.lstm import State
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import Arrays, ModelCard
from foretrace.serving.rows import FloatArray, check_index, index_after, to_rows

BLOCK = 4096  # rows at once: a layer of 512 units then needs 50 MB, however many rows there are


class Predictor:
    """A model that forecasts what follows given rows; made by `foretrace.load`.

    Args:
        card: What the model's numbers mean.
        model: The network, on the CPU; it is put in evaluation mode.
        calibration: Arrays that say how wrong forecasts may be, by name.

    >>> settings = {"hidden_sizes": [4], "output": "change"}
    >>> card = ModelCard(feature_names=["x"], units=["m"], covariate_names=[], dt_s=0.1, data_digest="", model=settings)
    >>> predictor = Predictor(card, card.build())
    >>> predictor.predict(np.zeros((20, 1)), horizon=3).shape
    (3, 1)
    """

    def __init__(self, card: ModelCard, model: NextStepModel, calibration: Arrays | None = None) -> None:
        self.card, self.model, self.calibration = card, model.eval(), calibration or {}
        self.feature_names, self.covariate_names = card.feature_names, card.covariate_names
        self.units, self.dt_s, self.data_digest = card.units, card.dt_s, card.data_digest
        self.columns = self.feature_names + self.covariate_names

    def predict(self, rows: Any, horizon: int = 1, future: Any = None) -> pd.DataFrame:
        """Forecast the rows that follow the last one; beyond the first, the model reads its own forecasts.

        Args:
            rows: A data frame with `columns` (features, then covariates) in this order, or an array (T, C).
                Where its index is time, its step must be `dt_s`.
            horizon: How many rows, H.
            future: Covariates of the H − 1 rows before the last one that is forecast: a data frame or an array
                (H − 1, K); more rows are not read. Needed where the model has covariates and H > 1.

        Returns:
            H rows of the features, in float32, in the data's units; an index of time or numbers continues.

        Raises:
            UserError: If what is given does not fit the model; names the column, the row or the rate.
        """
        values = to_rows(rows, self.columns)
        if not len(values):
            raise UserError("rows: at least one row is needed")
        if isinstance(rows, pd.DataFrame):
            check_index(rows.index, self.dt_s)
        covariates = self.future_covariates(future, horizon)
        state: State | None = None
        for start in range(0, len(values), BLOCK):
            forecasts, state = self.forecast_steps(values[start : start + BLOCK], state)
        assert state is not None, "there is a row"
        found = self.continue_rollout(forecasts[-1], state, horizon, covariates)
        index = index_after(rows, horizon, self.dt_s)
        return pd.DataFrame(found, columns=list(self.feature_names), index=index)

    def start(self) -> State:
        """Return the state before the first row, for `step`."""
        return tuple(
            (torch.zeros(1, 1, size), torch.zeros(1, 1, size)) for size in self.card.model.hidden_sizes
        )

    def step(self, values: npt.ArrayLike, state: State) -> tuple[FloatArray, State]:
        """Read one more row and forecast the next: for a loop that measures and acts.

        Args:
            values: Features, then covariates. Shape (C,).
            state: Of `start` or of the step before; it is not changed, so one can return to it.

        Returns:
            The forecast (F,), and the state for the next step.

        Raises:
            UserError: If there are more or fewer values, or one is not finite.
        """
        row = np.asarray(values)
        if row.shape != (len(self.columns),):
            expected = f"({len(self.columns)},), with {', '.join(self.columns)}"
            raise UserError(f"values: shape must be {expected}, got {row.shape}")
        forecasts, state = self.forecast_steps(to_rows(row[None], self.columns, what="values"), state)
        return forecasts[0], state

    def forecast_steps(self, rows: FloatArray, state: State | None) -> tuple[FloatArray, State]:
        """Forecast one step ahead of each of the rows, which are not checked.

        Args:
            rows: Shape (T, C).
            state: Before the first of them; None is zero.

        Returns:
            One-step forecasts (T, F), and the state after the last row.
        """
        features = len(self.feature_names)
        given = torch.tensor(rows)  # a copy: the rows may be a read-only view
        with torch.inference_mode():
            if len(rows) == 1:
                return self._forecast_step(given[:, :features], given[:, features:], state or self.start())
            forecast, after = self.model(given[None, :, :features], given[None, :, features:], state)
        found: FloatArray = forecast[0].numpy()
        return found, after

    def _forecast_step(self, values: Tensor, covariates: Tensor, state: State) -> tuple[FloatArray, State]:
        """Forecast after a single row, (1, F) and (1, K), by the equations of one step.

        `torch.nn.LSTM` arranges its weights for long sequences anew at each call, which takes 5 times as long.
        """
        model, after = self.model, list[tuple[Tensor, Tensor]]()
        x = model.scaling(values)
        read = below = model.inputs(x, covariates)
        for layer, (h, c) in zip(model.stack.lstm, state, strict=True):
            below, cell = torch.lstm_cell(below, (h[0], c[0]), *layer.all_weights[0])  # type: ignore[index]
            after.append((below[None], cell[None]))
        scaled = model.forecast(x, read, model.stack.head(below))
        found: FloatArray = model.scaling.inverse(scaled).numpy()
        return found, tuple(after)

    def continue_rollout(
        self, first: FloatArray, state: State, horizon: int, covariates: FloatArray
    ) -> FloatArray:
        """Let forecasts feed on themselves.

        Args:
            first: The forecast of the next row. Shape (F,).
            state: That it was made with.
            horizon: H, including the first.
            covariates: Of the first H − 1 rows. Shape (H − 1, K) or longer.

        Returns:
            Shape (H, F).
        """
        forecasts = [first]
        for step in range(horizon - 1):
            row = np.concatenate([forecasts[-1], covariates[step]])
            forecast, state = self.forecast_steps(row[None], state)
            forecasts.append(forecast[0])
        return np.stack(forecasts)

    def future_covariates(self, future: Any, horizon: int, *, what: str = "future") -> FloatArray:
        """Check the covariates of the rows to come.

        Args:
            future: A data frame or an array of shape (H − 1, K) or longer; None where none is needed.
            horizon: H.
            what: How errors name it.

        Returns:
            Shape (H − 1, K) or longer.

        Raises:
            UserError: If they do not fit, or there are too few.
        """
        if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
            raise UserError(f"horizon: must be an integer > 0, got {horizon!r}")
        if not self.covariate_names:
            if future is not None:
                raise UserError(f"{what}: the model has no covariates, so none can be given")
            return np.zeros((horizon - 1, 0), np.float32)
        given = np.zeros((0, len(self.covariate_names)), np.float32) if future is None else future
        covariates = to_rows(given, self.covariate_names, what=what)
        if len(covariates) < horizon - 1:
            needed = f"{horizon - 1} rows of {', '.join(self.covariate_names)}"
            raise UserError(f"{what}: a horizon of {horizon} needs {needed}, got {len(covariates)}")
        return covariates
