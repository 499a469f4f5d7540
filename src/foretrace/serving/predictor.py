"""A trained model for whoever wants forecasts: rows in, rows out, in the data's own units.

Shapes: T rows, F features, K covariates, C = F + K columns, H steps ahead, M members of an ensemble.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from foretrace.data.sequences import FloatArray
from foretrace.errors import UserError
from foretrace.model.lstm import State
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import Arrays, ModelCard
from foretrace.serving.rows import check_index, index_after, to_rows

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
        self.columns = card.columns

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
        state = self.start()
        for start in range(0, len(values), BLOCK):
            forecasts, state = self.forecast_steps(values[start : start + BLOCK], state)
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
        row = to_rows(np.asarray(values)[None], self.columns, what="values")
        forecasts, state = self.forecast_steps(row, state)
        return forecasts[0], state

    def forecast_steps(self, rows: FloatArray, state: State) -> tuple[FloatArray, State]:
        """Forecast one step ahead of each of the rows, which are not checked.

        Args:
            rows: Shape (T, C).
            state: Before the first of them.

        Returns:
            One-step forecasts (T, F), and the state after the last row.
        """
        model, given = self.model, torch.tensor(rows)  # a copy: the rows may be a read-only view
        values, covariates = given.tensor_split([len(self.feature_names)], dim=1)
        found: FloatArray
        with torch.inference_mode():
            if len(rows) > 1:
                forecast, state = model(values[None], covariates[None], state)
                found = forecast[0].numpy()
                return found, state
            # By the equations of one step: `torch.nn.LSTM` arranges its weights for long sequences anew at each
            # call, which takes 5 times as long.
            x, after = model.scaling(values), []
            read = below = model.inputs(x, covariates)
            for layer, (h, c) in zip(model.stack.lstm, state, strict=True):
                below, cell = torch.lstm_cell(below, (h[0], c[0]), *layer.all_weights[0])  # type: ignore[index]
                after.append((below[None], cell[None]))
            found = model.scaling.inverse(model.forecast(x, read, model.stack.head(below))).numpy()
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
        for known in covariates[: horizon - 1]:
            forecast, state = self.forecast_steps(np.concatenate([forecasts[-1], known])[None], state)
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
        names = self.covariate_names
        if not names and future is not None:
            raise UserError(f"{what}: the model has no covariates, so none can be given")
        given = np.zeros((0 if names else horizon - 1, len(names))) if future is None else future
        covariates = to_rows(given, names, what=what)
        if len(covariates) < horizon - 1:
            needed = f"{horizon - 1} rows of {', '.join(names)}"
            raise UserError(f"{what}: a horizon of {horizon} needs {needed}, got {len(covariates)}")
        return covariates


class Ensemble(Predictor):
    """A predictor that gives the mean of its members' forecasts, each of which reads its own forecasts.

    Args:
        members: Models of the same features and covariates, as the seeds of a sweep's best settings are.

    Raises:
        UserError: If they read or forecast something else than one another.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        super().__init__(members[0].card, members[0].model)
        self.members = list(members)
        if len({(member.columns, member.feature_names) for member in members}) > 1:
            raise UserError("run: the models of the sweep's best settings have different columns")

    def start(self) -> Any:
        """Return the members' states before the first row, each with its own last forecast."""
        return [(None, member.start()) for member in self.members]

    def forecast_steps(self, rows: FloatArray, state: Any) -> tuple[FloatArray, Any]:
        """Forecast one step ahead of each of the rows (T, C); the state is that of all members."""
        pairs = zip(self.members, state, strict=True)
        found = [member.forecast_steps(rows, before) for member, (_, before) in pairs]
        mean: FloatArray = np.mean([forecasts for forecasts, _ in found], axis=0, dtype=np.float32)
        return mean, [(forecasts[-1], after) for forecasts, after in found]

    def continue_rollout(
        self, first: FloatArray, state: Any, horizon: int, covariates: FloatArray
    ) -> FloatArray:
        """Let each member's forecasts feed on themselves, and return their mean (H, F)."""
        each = [
            member.continue_rollout(own, before, horizon, covariates)
            for member, (own, before) in zip(self.members, state, strict=True)
        ]
        mean: FloatArray = np.mean(each, axis=0, dtype=np.float32)
        return mean
