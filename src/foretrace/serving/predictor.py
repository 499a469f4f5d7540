"""A trained model for whoever wants forecasts: rows in, rows out, in the data's own units.

Shapes: T rows, F features, K covariates, C = F + K columns, H steps ahead, L levels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from foretrace.data.sequences import FloatArray
from foretrace.data.tables.steps import JUMP, SAME_STEP
from foretrace.errors import UserError
from foretrace.evaluation.calibration import Calibration
from foretrace.model.lstm import State
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import ModelCard

BLOCK = 4096  # rows at once: a layer of 512 units then needs 50 MB, however many rows there are


class Predictor:
    """A model that forecasts what follows given rows; made by `foretrace.load`.

    Args:
        card: What the model's numbers mean.
        model: The network, on the CPU; it is put in evaluation mode.
        calibration: How wrong forecasts may be; None where that is unknown.

    >>> settings = {"hidden_sizes": [4], "output": "change"}
    >>> card = ModelCard(feature_names=["x"], units=["m"], covariate_names=[], dt_s=0.1, data_digest="", model=settings)
    >>> predictor = Predictor(card, card.build())
    >>> predictor.predict(np.zeros((20, 1)), horizon=3).shape
    (3, 1)
    """

    def __init__(self, card: ModelCard, model: NextStepModel, calibration: Calibration | None = None) -> None:
        self.card, self.model, self.calibration = card, model.eval(), calibration
        self.feature_names, self.covariate_names = card.feature_names, card.covariate_names
        self.units, self.dt_s, self.data_digest = card.units, card.dt_s, card.data_digest
        self.columns = card.columns
        self.run_ids: tuple[str, ...] = (card.run_id,) if card.run_id else ()

    def predict(
        self,
        rows: Any,
        horizon: int = 1,
        future: Any = None,
        *,
        intervals: Sequence[float] | None = None,
        calibrated: bool = True,
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one; beyond the first, the model reads its own forecasts.

        Args:
            rows: A data frame with `columns` (features, then covariates) in this order, or an array (T, C).
                Where its index is time, its step must be `dt_s`.
            horizon: How many rows, H.
            future: Covariates of the H − 1 rows before the last one that is forecast: a data frame or an array
                (H − 1, K); more rows are not read. Needed where the model has covariates and H > 1.
            intervals: Levels in percent, of `levels`: columns ``<feature>_lo90`` and ``<feature>_hi90`` follow each
                feature's.
            calibrated: Whether forecasts are shrunk as the calibration says; False gives the model's own.

        Returns:
            H rows of the features, in float32, in the data's units; an index of time or numbers continues.

        Raises:
            UserError: If what is given does not fit the model; names the column, the row or the rate.
        """
        chosen = self.check_levels(intervals or ())
        values = to_rows(rows, self.columns)
        if not len(values):
            raise UserError("rows: at least one row is needed")
        if isinstance(rows, pd.DataFrame):
            check_index(rows.index, self.dt_s)
        covariates = self.future_covariates(future, horizon)
        state = self.start()
        for start in range(0, len(values), BLOCK):
            forecasts, _, state = self.forecast_steps(values[start : start + BLOCK], state)
        found, spread = self.continue_rollout(forecasts[-1], state, horizon, covariates)
        point, *ends = self.limits(found, spread, chosen)
        columns = self.interleave(point if calibrated else found, *ends)
        index = index_after(rows, horizon, self.dt_s)
        return pd.DataFrame(columns, columns=self.column_names(chosen), index=index)

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the intervals that forecasts have, in percent."""
        return self.calibration.levels if self.calibration else ()

    def check_levels(self, levels: Sequence[float]) -> tuple[float, ...]:
        """Return the levels in ascending order.

        Raises:
            UserError: If there is no interval of one of them, or a column of its name.
        """
        for level in levels:
            if level not in self.levels:
                known = ", ".join(f"{one:g}" for one in self.levels)
                said = f"intervals: the model has none at {level:g} %" + f", only at {known} %" * bool(known)
                raise UserError(said, hint="evaluation.levels of a training run says which a model has.")
        chosen = tuple(sorted(levels))
        if len(set(names := self.column_names(chosen))) < len(names):
            raise UserError(
                "intervals: a feature has the name of an interval's column", hint="Leave intervals out."
            )
        return chosen

    def column_names(self, levels: Sequence[float]) -> list[str]:
        """Return the names of a forecast's columns: each feature's, and the ends of its intervals."""
        ends = ["", *(f"_{end}{level:g}" for level in levels for end in ("lo", "hi"))]
        return [f"{name}{end}" for name in self.feature_names for end in ends]

    def limits(
        self, forecast: FloatArray, spread: FloatArray | None, levels: Sequence[float]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return calibrated forecasts (N, H, F), lower and upper ends (L, N, H, F), all raw.

        Args:
            forecast: Rollouts, raw. Shape (N, H, F).
            spread: Theirs, scaled, where the model gives one. Shape (N, H, F).
            levels: L of `levels`.
        """
        if self.calibration is None:
            none = np.zeros((0, *forecast.shape), np.float32)
            return forecast, none, none
        mean, scale = (part.cpu().numpy() for part in (self.model.scaling.mean, self.model.scaling.scale))
        point, lower, upper = self.calibration.limits((forecast - mean) / scale, spread)
        at = [self.levels.index(level) for level in levels]
        return tuple(  # type: ignore[return-value]
            np.asarray(mean + scale * part, np.float32) for part in (point, lower[at], upper[at])
        )

    @staticmethod
    def interleave(point: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """Return the columns of `column_names`. Shape (N H, F (1 + 2 L))."""
        parts = [point, *(end for pair in zip(lower, upper, strict=True) for end in pair)]
        *shape, features = point.shape
        return np.stack(parts, axis=-1).reshape(int(np.prod(shape)), features * len(parts))

    def start(self) -> State:
        """Return the state before the first row, for `step`."""
        return self.model.start()

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
        forecasts, _, state = self.forecast_steps(row, state)
        return forecasts[0], state

    def forecast_steps(self, rows: FloatArray, state: State) -> tuple[FloatArray, FloatArray | None, State]:
        """Forecast one step ahead of each of the rows (T, C), which are not checked.

        Returns:
            One-step forecasts (T, F), their scaled spread (T, F) where the model gives one, and the state after the
            last row.
        """
        model, given = self.model, torch.tensor(rows)  # a copy: the rows may be a read-only view
        values, covariates = given.tensor_split([len(self.feature_names)], dim=1)
        with torch.inference_mode():
            x = model.scaling(values[None])
            forecast, spread, after = model.forward_spread(x, covariates[None], state)
            found: FloatArray = model.scaling.inverse(forecast)[0].numpy()
        return found, None if spread is None else spread[0].numpy(), after

    def continue_rollout(
        self, first: FloatArray, state: State, horizon: int, covariates: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        """Let forecasts feed on themselves, from the first one (F,) and the state that it was made with.

        Covariates are those of the first H − 1 rows, (H − 1, K) or longer.

        Returns:
            The rollout (1, H, F), and its scaled spread (1, H, F) where the model gives one.
        """
        model, known = self.model, torch.tensor(covariates[None, : horizon - 1])
        with torch.inference_mode():
            x = model.scaling(torch.tensor(first)[None, None])
            scaled, spread = model.continue_rollout(x, known, state)
            found: FloatArray = model.scaling.inverse(scaled).numpy()
        return found, None if spread is None else spread.numpy()

    def future_covariates(self, future: Any, horizon: int, *, what: str = "future") -> FloatArray:
        """Return the covariates of the rows to come, (H − 1, K) or longer, checked; None where none is needed.

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


def to_rows(given: Any, names: Sequence[str], *, what: str = "rows") -> FloatArray:
    """Return finite numbers (T, C) in float32, in the columns that are expected.

    Args:
        given: A data frame with exactly these columns in this order, or an array of shape (T, C).
        names: Of the columns.
        what: How errors name it.

    Raises:
        UserError: If a column is missing, unknown, out of order or not numeric, or a value is not finite.

    >>> to_rows(pd.DataFrame({"b": [1.0], "a": [2.0]}), ["a", "b"])
    Traceback (most recent call last):
    foretrace.errors.UserError: rows: must have the columns a, b in this order, got b, a
    """
    expected = ", ".join(names) or "none"
    if isinstance(given, pd.DataFrame):
        received = [str(name) for name in given.columns]
        if received != list(names):
            odd = [f": no column {name!r}" for name in names if name not in received]
            odd += [f": the model does not read the column {one!r}" for one in received if one not in names]
            got = ", ".join(received) or "none"
            raise UserError(
                f"{what}{''.join(odd[:1])}: must have the columns {expected} in this order, got {got}"
            )
        columns = [_numbers(given.iloc[:, at], f"{what}, column {name!r}") for at, name in enumerate(names)]
        values = np.stack(columns, axis=1) if columns else np.zeros((len(given), 0))
    else:
        values = _numbers(given, what)
        if values.ndim != 2 or values.shape[1] != len(names):
            raise UserError(f"{what}: shape must be (T, {len(names)}), with {expected}, got {values.shape}")
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    if (broken := np.argwhere(~np.isfinite(rows))).size:
        row, column = broken[0]
        at = f"{what}, column {names[column]!r}, row {row + 1}"
        raise UserError(f"{at}: must be a finite number, got {rows[row, column]}")
    return rows


def _numbers(given: Any, where: str) -> npt.NDArray[np.float64]:
    try:
        array = given.to_numpy(np.float64, na_value=np.nan) if isinstance(given, pd.Series) else given
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: must be numbers ({str(error)[:100]})") from error


def check_index(index: pd.Index, dt_s: float | None) -> None:
    """Check that rows with an index of time are ``dt_s`` apart, or in order where the model knows no time step.

    Raises:
        UserError: If a row is not later than the one before, or the time step is another.
    """
    if not isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) or len(index) < 2:
        return
    # In UTC, if it has a zone. A time that is missing is far from any other.
    seconds = np.diff(index.asi8) * pd.Timedelta(1, unit=index.unit).total_seconds()
    usual = float(np.median(seconds))
    if dt_s is not None and usual > 0 and abs(usual - dt_s) > SAME_STEP * dt_s:
        message = f"index of rows: the time step must be {dt_s:g} s as in training, got {usual:g} s"
        raise UserError(message, hint="Resample the rows.")
    strays = ~(seconds > 0) if dt_s is None else ~(np.abs(seconds - dt_s) <= JUMP * dt_s)
    if (wrong := np.flatnonzero(strays | index.isna()[1:])).size:
        at, step = wrong[0] + 1, "later than" if dt_s is None else f"{dt_s:g} s after"
        problem = f"must be {step} the row before, got {index[at]} after {index[at - 1]}"
        raise UserError(f"index of rows, row {at + 1}: {problem}")


def index_after(given: Any, count: int, dt_s: float | None) -> pd.Index:
    """Return the index of the ``count`` rows that follow; it continues an index of time or of row numbers."""
    index = given.index if isinstance(given, pd.DataFrame) else pd.RangeIndex(len(given))
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and dt_s is not None:
        return index[-1] + pd.to_timedelta(np.arange(1, count + 1) * dt_s, unit="s")
    if not isinstance(index, pd.RangeIndex):
        index = pd.RangeIndex(len(index))
    return pd.RangeIndex(index[-1] + index.step, index[-1] + index.step * (count + 1), index.step)
