"""Whether all forms of a model say the same on real recordings.

Shapes: T rows, F features, C columns (features, then covariates).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from foretrace.errors import InputError
from foretrace.serving.predictor import Predictor
from foretrace.serving.rows import FloatArray

TOLERANCE = 1e-5  # largest difference, as a share of a feature's standard deviation in training …
ROUNDINGS = 2  # … beside this many roundings of float32, which count where a feature is far from zero
LENGTHS = (1, 2, 50)  # rows of short recordings, beside the whole one
LONGEST = 5000  # rows of a recording that are looked at
STEPS = 100  # that are also taken one by one


class Follower(Protocol):
    """What forecasts the next row at each of some rows, and carries a state."""

    def follow(self, rows: FloatArray, state: Any) -> tuple[FloatArray, Any]:
        """See `foretrace.serving.predictor.Predictor.follow`."""
        ...


def check_onnx(predictor: Predictor, other: Follower, episodes: Sequence[FloatArray]) -> float:
    """Compares one-step forecasts on short and long recordings, whole, in two parts and step by step.

    Args:
        predictor: The model.
        other: The same in another form.
        episodes: Real recordings (T, C).

    Returns:
        The largest difference, in standard deviations of training.

    Raises:
        InputError: If it is too large.
    """
    largest = 0.0
    for episode in episodes:
        rows = episode[:LONGEST]
        for beginning in _beginnings(rows):
            ours, _ = predictor.follow(beginning, None)
            theirs, _ = other.follow(beginning, None)
            largest = max(largest, _difference(predictor, ours, theirs, f"ONNX over {len(beginning)} rows"))
        ours, _ = predictor.follow(rows, None)
        half = len(rows) // 2
        if half:
            _, state = other.follow(rows[:half], None)
            theirs, _ = other.follow(rows[half:], state)
            largest = max(largest, _difference(predictor, ours[half:], theirs, "ONNX with the state carried"))
        state, steps = None, []
        for row in rows[:STEPS]:
            forecast, state = other.follow(row[None], state)
            steps.append(forecast[0])
        largest = max(largest, _difference(predictor, ours[:STEPS], np.stack(steps), "ONNX step by step"))
    return largest


def check_pyfunc(predictor: Predictor, loaded: Any, episodes: Sequence[FloatArray]) -> float:
    """Compares the forecast of the next row after short and long recordings.

    Args:
        predictor: The model.
        loaded: What ``mlflow.pyfunc.load_model`` gave.
        episodes: Real recordings (T, C).

    Returns:
        The largest difference, in standard deviations of training.

    Raises:
        InputError: If it is too large.
    """
    largest = 0.0
    for episode in episodes:
        rows = episode[:LONGEST]
        for beginning in _beginnings(rows):
            ours, _ = predictor.follow(beginning, None)
            frame = pd.DataFrame(beginning.astype(np.float64), columns=list(predictor.columns))
            theirs = loaded.predict(frame).to_numpy(np.float32)
            what = f"MLflow after {len(beginning)} rows"
            largest = max(largest, _difference(predictor, ours[-1:], theirs, what))
    return largest


def _beginnings(rows: FloatArray) -> list[FloatArray]:
    return [rows[:length] for length in sorted({min(length, len(rows)) for length in (*LENGTHS, len(rows))})]


def _difference(predictor: Predictor, ours: FloatArray, theirs: FloatArray, what: str) -> float:
    """The largest difference in standard deviations, roundings left out."""
    std = predictor.model.scaling.scale.numpy()
    rounding = ROUNDINGS * np.spacing(np.abs(ours))
    shares = np.maximum(np.abs(ours - theirs) - rounding, 0) / std
    found = float(shares.max()) if np.isfinite(shares).all() else float("inf")
    if found > TOLERANCE:
        expected = f"at most {TOLERANCE:g} standard deviations from PyTorch"
        raise InputError(what, expected=expected, received=f"{found:.2g}", remedy="Nothing was exported.")
    return found


def summary(found: Mapping[str, float], *, episodes: int) -> str:
    """A line for people."""
    told = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    return f"agrees   {told} standard deviations from PyTorch at most, over {episodes} episodes"
