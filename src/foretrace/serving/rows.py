"""What a user hands to a model: checked, by name, before the model sees it.

Shapes: T rows, C columns (features, then covariates).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretrace.data.gaps import SAME_STEP, is_jump
from foretrace.errors import InputError

FloatArray = npt.NDArray[np.float32]


def to_rows(given: Any, names: Sequence[str], *, what: str = "rows") -> FloatArray:
    """Finite numbers, in float32, in the columns that are expected.

    Args:
        given: A data frame with exactly these columns in this order, or an array of shape (T, C).
        names: Of the columns.
        what: How errors name it.

    Returns:
        Shape (T, C).

    Raises:
        InputError: If a column is missing, too many, in another place or not numeric, or a value is not finite.

    >>> to_rows(pd.DataFrame({"b": [1.0], "a": [2.0]}), ["a", "b"])
    Traceback (most recent call last):
    foretrace.errors.InputError: rows: expected the columns in the order a, b, received b, a
    """
    if isinstance(given, pd.DataFrame):
        _check_columns([str(name) for name in given.columns], names, what)
        columns = [
            _numbers(given.iloc[:, place], f"{what}, column {name!r}") for place, name in enumerate(names)
        ]
        values = np.stack(columns, axis=1) if columns else np.zeros((len(given), 0))
    else:
        values = _numbers(given, what)
        if values.ndim != 2 or values.shape[1] != len(names):
            expected = f"shape (T, {len(names)}), with the columns {', '.join(names)}"
            raise InputError(what, expected=expected, received=f"shape {values.shape}")
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    check_finite(rows, names, where=what)
    return rows


def check_finite(rows: FloatArray, names: Sequence[str], *, where: str, before: int = 0) -> None:
    """Checks rows (T, C), of which ``before`` others come first.

    Raises:
        InputError: If a value is missing, infinite or beyond float32; names column and row, counted from 1.
    """
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        place = f"{where}, column {names[column]!r}, row {before + row + 1}"
        raise InputError(place, expected="a finite number", received=f"{rows[row, column]}")


def check_rate(times: npt.NDArray[Any], dt_s: float | None, *, where: str, before: int = 0) -> None:
    """Checks that rows follow each other as in training.

    Args:
        times: Numbers or time stamps, one per row. Shape (T,).
        dt_s: The model's time step in seconds; None if it knows none: then the order alone is checked.
        where: How errors name it.
        before: How many rows come first.

    Raises:
        InputError: If a row is not later than the one before, or time stamps have another step.
    """
    spacings = np.diff(times)
    is_time = spacings.dtype.kind == "m"
    seconds = spacings / np.timedelta64(1, "s") if is_time else spacings
    if (back := np.flatnonzero(~(seconds > 0))).size:
        first = back[0]
        received = f"{times[first + 1]} after {times[first]}"
        place = f"{where}, row {before + first + 2}"
        raise InputError(place, expected="rows in the order of time, each once", received=received)
    if not is_time or dt_s is None or not len(seconds):
        return
    usual = float(np.median(seconds))
    if abs(usual - dt_s) > SAME_STEP * dt_s:
        expected, remedy = f"a time step of {dt_s:g} s, as in training", "Resample it."
        raise InputError(where, expected=expected, received=f"{usual:g} s", remedy=remedy)
    if (jumps := np.flatnonzero(is_jump(seconds, dt_s))).size:
        place = f"{where}, row {before + jumps[0] + 2}"
        received = f"{seconds[jumps[0]]:g} s after the row before"
        raise InputError(place, expected=f"a time step of {dt_s:g} s", received=received)


def index_after(given: Any, count: int, dt_s: float | None) -> pd.Index:
    """The index of the ``count`` rows that follow: it goes on where the given rows' index can be gone on with."""
    index = given.index if isinstance(given, pd.DataFrame) else None
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and dt_s is not None:
        return index[-1] + pd.to_timedelta(np.arange(1, count + 1) * dt_s, unit="s")
    if isinstance(index, pd.RangeIndex):
        return pd.RangeIndex(index[-1] + index.step, index[-1] + index.step * (count + 1), index.step)
    return pd.RangeIndex(len(given), len(given) + count)


def _check_columns(received: list[str], names: Sequence[str], what: str) -> None:
    if received == list(names):
        return
    missing = [name for name in names if name not in received]
    foreign = [name for name in received if name not in names]
    if missing:
        expected, shown = f"a column {missing[0]!r}", ", ".join(received) or "no column"
    elif foreign or len(received) > len(names):
        expected, shown = f"the columns {', '.join(names)} alone", ", ".join(foreign or received)
    else:
        expected, shown = f"the columns in the order {', '.join(names)}", ", ".join(received)
    raise InputError(what, expected=expected, received=shown)


def _numbers(given: Any, where: str) -> npt.NDArray[np.float64]:
    try:
        array = given.to_numpy(np.float64, na_value=np.nan) if isinstance(given, pd.Series) else given
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(where, expected="numbers", received=str(error)[:100]) from error
