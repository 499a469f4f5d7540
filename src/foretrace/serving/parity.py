"""Whether all forms of a model give the same forecasts on real recordings.

Shapes: T rows, F features, C columns (features, then covariates).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from foretrace.errors import UserError
from foretrace.serving.predictor import Predictor
from foretrace.serving.rows import FloatArray

TOLERANCE = 1e-5  # largest difference, as a share of a feature's standard deviation in training …
ROUNDINGS = 2  # … beside this many roundings of float32, which count where a feature is far from zero
LENGTHS = (1, 2, 50)  # rows of short recordings, beside the whole one
LONGEST = 5000  # rows of a recording that are looked at
STEPS = 100  # that are also taken one by one


class OneStep(Protocol):
    """Whatever forecasts one step ahead of each of some rows, and carries a state."""

    def forecast_steps(self, rows: FloatArray, state: Any) -> tuple[FloatArray, Any]:
        """Forecast as `foretrace.serving.predictor.Predictor.forecast_steps` does."""
        ...


def check_onnx(predictor: Predictor, other: OneStep, episodes: Sequence[FloatArray]) -> float:
    """Compare one-step forecasts on short and long recordings: whole, in two parts and step by step.

    Args:
        predictor: The model.
        other: The same in another form.
        episodes: Real recordings (T, C).

    Returns:
        The largest difference, in standard deviations of training.

    Raises:
        UserError: If it is too large.
    """
    differences = []
    for rows in _beginnings(episodes):
        ours, _ = predictor.forecast_steps(rows, None)
        theirs, state = other.forecast_steps(rows[: len(rows) // 2 or 1], None)
        if len(rows) > 1:
            theirs = np.concatenate([theirs, other.forecast_steps(rows[len(theirs) :], state)[0]])
        whole, _ = other.forecast_steps(rows, None)
        state, steps = None, []
        for row in rows[:STEPS]:
            forecast, state = other.forecast_steps(row[None], state)
            steps.append(forecast[0])
        for how, found in (("at once", whole), ("in two parts", theirs), ("step by step", np.stack(steps))):
            differences.append(
                _difference(predictor, ours[: len(found)], found, f"ONNX, {len(rows)} rows {how}")
            )
    return max(differences)


def check_pyfunc(predictor: Predictor, loaded: Any, episodes: Sequence[FloatArray]) -> float:
    """Compare the forecast of the next row after short and long recordings.

    Args:
        predictor: The model.
        loaded: What ``mlflow.pyfunc.load_model`` gave.
        episodes: Real recordings (T, C).

    Returns:
        The largest difference, in standard deviations of training.

    Raises:
        UserError: If it is too large.
    """
    differences = []
    for rows in _beginnings(episodes):
        ours, _ = predictor.forecast_steps(rows, None)
        frame = pd.DataFrame(rows.astype(np.float64), columns=list(predictor.columns))
        theirs = loaded.predict(frame).to_numpy(np.float32)
        differences.append(_difference(predictor, ours[-1:], theirs, f"MLflow, {len(rows)} rows"))
    return max(differences)


def _beginnings(episodes: Sequence[FloatArray]) -> Iterator[FloatArray]:
    for episode in episodes:
        longest = min(len(episode), LONGEST)
        yield from (episode[:length] for length in sorted({min(n, longest) for n in (*LENGTHS, longest)}))


def _difference(predictor: Predictor, ours: FloatArray, theirs: FloatArray, what: str) -> float:
    """The largest difference in standard deviations, roundings left out."""
    std = predictor.model.scaling.scale.numpy()
    rounding = ROUNDINGS * np.spacing(np.abs(ours))
    shares = np.maximum(np.abs(ours - theirs) - rounding, 0) / std
    found = float(shares.max()) if np.isfinite(shares).all() else float("inf")
    if found > TOLERANCE:
        problem = f"{found:.2g} standard deviations from PyTorch, more than {TOLERANCE:g}"
        raise UserError(f"{what}: {problem}", hint="Nothing was exported.")
    return found
