"""What a user hands to a model: checked, by name, before the model sees it.

Shapes: T rows, C columns (features, then covariates).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretrace.data.sequences import FloatArray
from foretrace.data.tables.steps import JUMP, SAME_STEP
from foretrace.errors import UserError


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
