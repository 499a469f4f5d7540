"""The figures of an assessment by the names under which they are tracked."""

import numpy as np

from foretrace.evaluation.bootstrap import Interval
from foretrace.evaluation.episode_errors import MODEL
from foretrace.evaluation.evaluate import EvaluationResult
from foretrace.evaluation.initial_state import CarriedStateErrors
from foretrace.evaluation.rollout import HORIZONS, OpenLoop


def evaluation_metrics(assessment: EvaluationResult, *, seed: int = 0) -> dict[str, float]:
    """Flattens an assessment.

    - ``test/…``, ``persistence/…`` and ``skill`` are the cold one-step errors, as `Evaluation` names them;
    - ``cold/mse/<position>`` is what a state of zero costs, by position in the window from 1;
    - ``warm/mse``, ``warm/l1``, ``warm/<baseline>/mse`` and ``skill/<baseline>`` have the state carried;
    - ``open_loop/mse/<steps>``, ``open_loop/<baseline>/mse/<steps>``, ``open_loop/skill/<baseline>/<steps>``;
    - ``valid_time_steps``, ``valid_time_s`` and ``valid_time_steps/<baseline>``;
    - ``…/low`` and ``…/high`` are the ends of a 95 % interval over episodes, where one is known.

    Args:
        assessment: All errors are scaled but ``…/raw/…``.
        seed: Of the resamples.
    """
    generator = np.random.default_rng(seed)
    cold = assessment.cold_start
    named = _interval("test/mse", assessment.mse_interval(cold.errors[MODEL], generator=generator))
    named |= assessment.cold.metrics()
    by_position = cold.mean_by_position(MODEL)
    named |= {f"cold/mse/{at}": float(by_position[at - 1]) for at in HORIZONS if at <= len(by_position)}
    if assessment.warm is not None:
        named |= _warm(assessment, assessment.warm, generator)
    if assessment.open_loop is not None:
        named |= _open_loop(assessment, assessment.open_loop, generator)
    return named


def _warm(
    assessment: EvaluationResult, warm: CarriedStateErrors, generator: np.random.Generator
) -> dict[str, float]:
    model = warm.errors[MODEL]
    named = _interval("warm/mse", assessment.mse_interval(model, generator=generator))
    named["warm/l1"] = float(model.mean_l1)
    for name, errors in warm.errors.items():
        if name != MODEL:
            named[f"warm/{name}/mse"] = float(errors.mean_mse)
            saved = assessment.skill_interval(model, errors, generator=generator)
            named |= _interval(f"skill/{name}", saved)
    return named


def _open_loop(
    assessment: EvaluationResult, loop: OpenLoop, generator: np.random.Generator
) -> dict[str, float]:
    model, named = loop.errors[MODEL], dict[str, float]()
    intervals = assessment.mse_interval(model, generator=generator)  # (H,)
    for steps in loop.horizons:
        ends = (bound[steps - 1] for bound in (intervals.value, intervals.low, intervals.high))
        named |= _interval(f"open_loop/mse/{steps}", Interval(*ends))
        named[f"open_loop/l1/{steps}"] = float(model.mean_l1[steps - 1])
    for name, errors in loop.errors.items():
        time = assessment.valid_time(name, generator=generator)
        named |= _interval("valid_time_steps" if name == MODEL else f"valid_time_steps/{name}", time)
        if name == MODEL and assessment.dt_s is not None:
            seconds = (bound * assessment.dt_s for bound in (time.value, time.low, time.high))
            named |= _interval("valid_time_s", Interval(*seconds))
        elif name != MODEL:
            saved = assessment.open_loop_skill(name)
            for steps in loop.horizons:
                named[f"open_loop/{name}/mse/{steps}"] = float(errors.mean_mse[steps - 1])
                named[f"open_loop/skill/{name}/{steps}"] = float(saved[steps - 1])
    return named


def _interval(name: str, interval: Interval) -> dict[str, float]:
    named = {name: float(interval.value)}
    if interval.known:
        named |= {f"{name}/low": float(interval.low), f"{name}/high": float(interval.high)}
    return named
