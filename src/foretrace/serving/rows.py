"""What a user hands to a model: checked, by name, before the model sees it.

Shapes: T rows, C columns (features, then covariates).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretrace.data.tables.times import JUMP, SAME_STEP
from foretrace.errors import UserError

FloatArray = npt.NDArray[np.float32]


def to_rows(given: Any, names: Sequence[str], *, what: str = "rows") -> FloatArray:
    """Return finite numbers in float32, in the columns that are expected.

    Args:
        given: A data frame with exactly these columns in this order, or an array of shape (T, C).
        names: Of the columns.
        what: How errors name it.

    Returns:
        Shape (T, C).

    Raises:
        UserError: If a column is missing, unknown, out of order or not numeric, or a value is not finite.

    >>> to_rows(pd.DataFrame({"b": [1.0], "a": [2.0]}), ["a", "b"])
    Traceback (most recent call last):
    foretrace.errors.UserError: rows: columns must be in the order a, b, got b, a
    """
    if isinstance(given, pd.DataFrame):
        _check_columns([str(name) for name in given.columns], names, what)
        columns = [_numbers(given.iloc[:, at], f"{what}, column {name!r}") for at, name in enumerate(names)]
        values = np.stack(columns, axis=1) if columns else np.zeros((len(given), 0))
    else:
        values = _numbers(given, what)
        if values.ndim != 2 or values.shape[1] != len(names):
            expected = f"(T, {len(names)}), with the columns {', '.join(names)}"
            raise UserError(f"{what}: shape must be {expected}, got {values.shape}")
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    check_finite(rows, names, where=what)
    return rows


def check_finite(rows: FloatArray, names: Sequence[str], *, where: str, before: int = 0) -> None:
    """Check rows (T, C), which come after ``before`` others.

    Raises:
        UserError: If a value is missing, infinite or beyond float32; names column and row, counted from 1.
    """
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        at = f"{where}, column {names[column]!r}, row {before + row + 1}"
        raise UserError(f"{at}: must be a finite number, got {rows[row, column]}")


def check_rate(times: npt.NDArray[Any], dt_s: float | None, *, where: str, before: int = 0) -> None:
    """Check that rows follow each other as in training.

    Args:
        times: Numbers or time stamps, one per row. Shape (T,).
        dt_s: The model's time step in seconds; None if it knows none: then only the order is checked.
        where: How errors name it.
        before: How many rows come first.

    Raises:
        UserError: If a row is not later than the one before, or time stamps have another step.
    """
    spacings = np.diff(times)
    is_time = spacings.dtype.kind == "m"
    seconds = spacings / np.timedelta64(1, "s") if is_time else spacings
    if (back := np.flatnonzero(~(seconds > 0))).size:
        first = back[0]
        at = f"{where}, row {before + first + 2}"
        raise UserError(f"{at}: time must increase, got {times[first + 1]} after {times[first]}")
    if not is_time or dt_s is None or not len(seconds):
        return
    usual = float(np.median(seconds))
    if abs(usual - dt_s) > SAME_STEP * dt_s:
        message = f"{where}: the time step must be {dt_s:g} s as in training, got {usual:g} s"
        raise UserError(message, hint="Resample the rows.")
    if (jumps := np.flatnonzero(np.abs(seconds - dt_s) > JUMP * dt_s)).size:
        at = f"{where}, row {before + jumps[0] + 2}"
        raise UserError(f"{at}: must come {dt_s:g} s after the row before, got {seconds[jumps[0]]:g} s")


def check_index(index: pd.Index, dt_s: float | None) -> None:
    """Check the time step of a data frame's index, if that is time.

    Raises:
        UserError: If it is not the model's.
    """
    if isinstance(index, pd.DatetimeIndex):
        check_rate(
            index.to_numpy(dtype="datetime64[ns]"), dt_s, where="index of rows"
        )  # UTC, if it has a zone
    elif isinstance(index, pd.TimedeltaIndex):
        check_rate(index.to_numpy(), dt_s, where="index of rows")


def index_after(given: Any, count: int, dt_s: float | None) -> pd.Index:
    """Return the index of the ``count`` rows that follow; it continues an index of time or of row numbers."""
    index = given.index if isinstance(given, pd.DataFrame) else None
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and dt_s is not None:
        return index[-1] + pd.to_timedelta(np.arange(1, count + 1) * dt_s, unit="s")
    if isinstance(index, pd.RangeIndex):
        return pd.RangeIndex(index[-1] + index.step, index[-1] + index.step * (count + 1), index.step)
    return pd.RangeIndex(len(given), len(given) + count)


def _check_columns(received: list[str], names: Sequence[str], what: str) -> None:
    if received == list(names):
        return
    if missing := [name for name in names if name not in received]:
        raise UserError(f"{what}: no column {missing[0]!r}, got {', '.join(received) or 'no column'}")
    if foreign := [name for name in received if name not in names]:
        hint = f"The model reads {', '.join(names) or 'none'}."
        raise UserError(f"{what}: the model does not read the column {foreign[0]!r}", hint=hint)
    raise UserError(f"{what}: columns must be in the order {', '.join(names)}, got {', '.join(received)}")


def _numbers(given: Any, where: str) -> npt.NDArray[np.float64]:
    try:
        array = given.to_numpy(np.float64, na_value=np.nan) if isinstance(given, pd.Series) else given
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: must be numbers ({str(error)[:100]})") from error
