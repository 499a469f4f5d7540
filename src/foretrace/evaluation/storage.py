"""An evaluation as tracked metrics, and as a file, so that runs can be compared long after.

A file holds arrays and a text in JSON, nothing that is executed when read (``allow_pickle=False``).
"""

import dataclasses
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from foretrace.errors import UserError
from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.forecast_errors import CALIBRATED, MODEL, FloatArray
from foretrace.evaluation.result import EvaluationResult, skill

EVALUATION = "evaluation.npz"
FORMAT = 2
LARGEST = 1 << 32  # bytes that a file is unpacked to; it may be a thousandth of that
Curve = dict[int, float]  # by steps ahead, or by position in a window, from 1

# Of an archive, of its arrays' headers, of its text.
BROKEN = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, RecursionError, MemoryError,
    SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)  # fmt: skip
ARRAY = "<array>"  # stands in the text for the array of that place's name


def evaluation_metrics(result: EvaluationResult) -> tuple[dict[str, float], dict[str, Curve]]:
    """Return the scalars, and the curves: figures that depend on the steps ahead.

    - ``test/...``, ``persistence/...`` and ``skill`` are the one-step errors from a state of zero;
    - ``carried_state/mse``, ``carried_state/l1``, ``carried_state/<baseline>/mse`` and ``skill/<baseline>`` are
      those with the state carried;
    - ``valid_time_steps``, ``valid_time_s`` and ``valid_time_steps/<baseline>``: medians over starts;
    - the curve ``zero_state/mse`` is what a state of zero costs, by position in the window;
    - the curves ``open_loop/mse``, ``open_loop/l1`` and ``open_loop/<baseline>/mse`` go by steps ahead, and
      ``open_loop/calibrated/mse``, which is what a forecast of the model gives;
    - ``test/mase`` and the curve ``open_loop/mase`` are in units of a naive forecast's error in training;
    - the curves ``coverage/<level>`` and ``width/<level>`` are those of its intervals, ``crps`` and
      ``crps/<baseline>`` the scores.

    All errors are scaled but ``.../raw/...``.
    """
    scalars, zero_state = dict[str, float](), result.zero_state
    for prefix, name in (("test", MODEL), ("persistence", PERSISTENCE)):
        errors = zero_state.errors[name]
        raw = errors.in_units(result.scale)
        scalars |= {f"{prefix}/mse": float(errors.mean_mse), f"{prefix}/l1": float(errors.mean_l1)}
        scalars |= {f"{prefix}/raw/mse": float(raw.mean_mse), f"{prefix}/raw/l1": float(raw.mean_l1)}
    scalars["skill"] = result.skill
    if (mase := result.mase(zero_state.errors[MODEL])) is not None:
        scalars["test/mase"] = float(mase)
    curves = {"zero_state/mse": _curve(zero_state.by_position[MODEL].mean(axis=-1))}
    if result.carried_state is not None:
        carried = result.carried_state.errors
        scalars |= {_name("carried_state", name, "mse"): float(e.mean_mse) for name, e in carried.items()}
        scalars["carried_state/l1"] = float(carried[MODEL].mean_l1)
        skills = {name: skill(carried[MODEL].mean_mse, e.mean_mse) for name, e in carried.items()}
        scalars |= {f"skill/{name}": float(value) for name, value in skills.items() if name != MODEL}
    if (loop := result.open_loop) is not None:
        curves |= {_name("open_loop", n, "mse"): _curve(e.mean_mse) for n, e in loop.errors.items()}
        if (mase := result.mase(loop.given)) is not None:
            curves["open_loop/mase"] = _curve(mase)
        if result.boosting:
            curves["open_loop/boosting/mse"] = {n: float(e.mean_mse) for n, e in result.boosting.items()}
        curves["open_loop/l1"] = _curve(loop.errors[MODEL].mean_l1)
        scalars |= {_name("valid_time_steps", n): float(loop.valid_time(n)) for n in loop.errors}
        for name, scores in loop.intervals.items():
            if name == CALIBRATED:
                levels = [f"{level:g}" for level in scores.levels]
                curves |= {f"coverage/{n}": _curve(c) for n, c in zip(levels, scores.coverage, strict=True)}
                curves |= {f"width/{n}": _curve(w) for n, w in zip(levels, scores.mean_width, strict=True)}
            curves["crps" if name == CALIBRATED else f"crps/{name}"] = _curve(scores.crps)
        if result.dt_s is not None:
            scalars["valid_time_s"] = loop.valid_time(MODEL) * result.dt_s
    return scalars, curves


def _name(*parts: str) -> str:
    return "/".join(part for part in parts if part != MODEL)


def _curve(values: FloatArray) -> Curve:
    return {at: float(value) for at, value in enumerate(np.asarray(values), start=1)}


class _Content(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")  # of the dataclasses within, too

    format: int
    result: EvaluationResult


def save_evaluation(result: EvaluationResult, path: Path) -> None:
    """Write an evaluation to an ``.npz`` file."""
    arrays: dict[str, Any] = {}

    def take_arrays(value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {key: take_arrays(inner, f"{place}/{key}") for key, inner in value.items()}
        if isinstance(value, np.ndarray):
            arrays[place] = value
            return ARRAY
        return value

    content = {"format": FORMAT, "result": take_arrays(dataclasses.asdict(result), "result")}
    with path.open("wb") as file:  # given a name, NumPy would append a suffix to it
        np.savez_compressed(file, content=np.array(json.dumps(content)), **arrays)


def load_evaluation(path: Path) -> EvaluationResult:
    """Read what `save_evaluation` wrote.

    Raises:
        UserError: If the file is none of these.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"{size:,} bytes of arrays")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        content = json.loads(str(arrays.pop("content")))
        return _check(_Content.model_validate(_put_arrays(content, "", arrays)).result)
    except BROKEN as error:
        said = f"{path}: not an evaluation of this version ({type(error).__name__}: {error})"
        raise UserError(said, hint="Evaluate the run again.") from error


def _put_arrays(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _put_arrays(inner, f"{place}/{key}".lstrip("/"), arrays) for key, inner in value.items()}
    if value == ARRAY:
        if arrays[place].dtype not in (np.float64, np.int64):
            raise ValueError(f"{place} holds {arrays[place].dtype}")
        return arrays[place]
    return value


def _check(result: EvaluationResult) -> EvaluationResult:
    """Return an evaluation whose arrays fit together.

    Raises:
        ValueError: If they do not.
        KeyError: If the model's errors are missing.
    """
    width = len(result.feature_names)
    sound = result.scale.shape == (width,) and bool((result.scale > 0).all())
    for errors in result.tables().values():
        shape = errors[MODEL].squared.shape
        sound &= shape[1:] == (width,) and all(table.squared.shape == shape for table in errors.values())
    if not sound or result.zero_state.by_position[MODEL].ndim != 2:
        raise ValueError("arrays that do not fit together")
    return result
