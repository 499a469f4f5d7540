"""Whether all forms of a model give the same forecasts on real recordings.

Shapes: T rows, F features, C columns (features, then covariates).
"""

from collections.abc import Iterator, Sequence
from typing import Any

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


def check_onnx(predictor: Predictor, other: Any, episodes: Sequence[FloatArray]) -> float:
    """Compare one-step forecasts on short and long recordings: at once, in two parts and step by step.

    Args:
        predictor: The model.
        other: The same in another form, with a method ``forecast_steps`` as `Predictor` has it.
        episodes: Real recordings (T, C).

    Returns:
        The largest difference, in standard deviations of training.

    Raises:
        UserError: If it is too large.
    """
    differences = []
    for rows in _beginnings(episodes):
        ours, _ = predictor.forecast_steps(rows, None)
        for how, sizes in (("at once", [len(rows)]), ("in two parts", [len(rows) // 2, len(rows)])):
            differences.append(
                _difference(predictor, ours, _in_parts(other, rows, sizes), f"{len(rows)} rows {how}")
            )
        few = rows[:STEPS]
        steps = _in_parts(other, few, range(1, len(few) + 1))
        differences.append(_difference(predictor, ours[: len(few)], steps, f"{len(few)} rows step by step"))
    return max(differences)


def check_pyfunc(predictor: Predictor, loaded: Any, episodes: Sequence[FloatArray]) -> float:
    """Compare the forecast of the next row after short and long recordings, as `check_onnx` does.

    Args:
        predictor: The model.
        loaded: What ``mlflow.pyfunc.load_model`` gave.
        episodes: Real recordings (T, C).
    """
    differences = []
    for rows in _beginnings(episodes):
        frame = pd.DataFrame(rows.astype(np.float64), columns=list(predictor.columns))
        ours, theirs = (model.predict(frame).to_numpy(np.float32) for model in (predictor, loaded))
        differences.append(_difference(predictor, ours, theirs, f"MLflow after {len(rows)} rows"))
    return max(differences)


def _beginnings(episodes: Sequence[FloatArray]) -> Iterator[FloatArray]:
    for episode in episodes:
        longest = min(len(episode), LONGEST)
        yield from (episode[:length] for length in sorted({min(n, longest) for n in (*LENGTHS, longest)}))


def _in_parts(model: Any, rows: FloatArray, ends: Sequence[int]) -> FloatArray:
    """Forecasts (T, F) by one call for each part, which begins where the one before ended, with the state carried."""
    state, found, first = None, [], 0
    for end in ends:
        if end > first:
            forecasts, state = model.forecast_steps(rows[first:end], state)
            found.append(forecasts)
        first = end
    return np.concatenate(found)


def _difference(predictor: Predictor, ours: FloatArray, theirs: FloatArray, what: str) -> float:
    """The largest difference in standard deviations, roundings left out."""
    std = predictor.model.scaling.scale.numpy()
    rounding = ROUNDINGS * np.spacing(np.abs(ours))
    shares = np.maximum(np.abs(ours - theirs) - rounding, 0) / std
    found = float(shares.max()) if np.isfinite(shares).all() else float("inf")
    if found > TOLERANCE:
        problem = f"differs by {found:.2g} standard deviations from PyTorch, more than {TOLERANCE:g}"
        raise UserError(f"{what}: {problem}", hint="Nothing was exported.")
    return found
