"""The figures of an evaluation by the names under which they are tracked."""

import numpy as np

from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.forecast_errors import CALIBRATED, MODEL, FloatArray
from foretrace.evaluation.result import EvaluationResult, skill

Curve = dict[int, float]  # by steps ahead, or by position in a window, from 1


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
        ours = float(carried[MODEL].mean_mse)
        scalars |= {f"skill/{n}": skill(ours, float(e.mean_mse)) for n, e in carried.items() if n != MODEL}
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
