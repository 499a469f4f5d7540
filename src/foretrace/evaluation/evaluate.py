"""How good a model is: all errors of a test part, with the baselines beside and intervals around.

Shapes: E episodes, T steps of a window, H steps ahead, F features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import fit_baselines
from foretrace.evaluation.bootstrap import Interval, bootstrap_median, bootstrap_ratio
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.episode_errors import MODEL, EpisodeErrors, FloatArray, group
from foretrace.evaluation.initial_state import (
    CarriedStateErrors,
    ZeroStateErrors,
    carried_state_unavailable,
    evaluate_carried_state,
    evaluate_zero_state,
)
from foretrace.evaluation.one_step import Evaluation, skill
from foretrace.evaluation.rollout import VALID_BELOW, OpenLoop, evaluate_open_loop, rollout_unavailable
from foretrace.model.next_step import NextStepModel


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationResult:
    """A model's errors on a test part: one step ahead from a cold and a warm state, and in open loop.

    All errors are in scaled units, of the model's training standard deviation per feature; times ``scale`` an
    absolute error is in the feature's own unit, and times its square a squared one.

    Args:
        feature_names: F names.
        units: F units; empty where unknown.
        scale: Of each feature, in its unit. Shape (F,).
        dt_s: Time from one row to the next; None where unknown.
        episode_names: E names.
        recordings: The recording of each episode. What is drawn to find an interval is recordings.
        digest: Of the test part: two runs can be compared if it is the same.
        cold: One-step errors on whole windows from a state of zero, as published.
        cold_start: The same by position in the window and by episode.
        warm: One-step errors with the state carried; None if no episode is long enough.
        open_loop: Errors of forecasts that feed on themselves; None where that is not defined.
        missing: Why ``warm`` or ``open_loop`` is None.
        chosen: What was chosen on validation data, per baseline.
    """

    feature_names: tuple[str, ...]
    units: tuple[str, ...]
    scale: FloatArray
    dt_s: float | None
    episode_names: tuple[str, ...]
    recordings: tuple[str, ...]
    digest: str
    cold: Evaluation
    cold_start: ZeroStateErrors
    warm: CarriedStateErrors | None
    open_loop: OpenLoop | None
    missing: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def worse_than(self) -> tuple[str, ...]:
        """Baselines with a smaller error than the model's, one step ahead or at any reported horizon."""
        return tuple(self.losses())

    def losses(self) -> dict[str, list[str]]:
        """Where each baseline that beats the model does so, e.g. ``{"mean": ["open loop, 100 steps"]}``."""
        found: dict[str, list[str]] = {}
        for where, errors in self._tables().items():
            ours = float(errors[MODEL].mean_mse)
            for name in _baselines(errors):
                # Not simply `theirs < ours`: a forecast that is not finite loses to every one that is.
                theirs = float(errors[name].mean_mse)
                if theirs < ours or (np.isfinite(theirs) and not np.isfinite(ours)):
                    found.setdefault(name, []).append(where)
        return found

    def open_loop_skill(self, baseline: str) -> FloatArray:
        """1 − MSE / the baseline's MSE, at each step ahead. Shape (H,).

        Raises:
            ValueError: If there is no open loop.
        """
        if self.open_loop is None:
            raise ValueError(f"there is no open loop: {self.missing['open_loop']}")
        errors = self.open_loop.errors
        pairs = zip(errors[MODEL].mean_mse, errors[baseline].mean_mse, strict=True)
        return np.array([skill(float(ours), float(theirs)) for ours, theirs in pairs])

    def mse_interval(self, errors: EpisodeErrors, *, generator: np.random.Generator) -> Interval:
        """Mean squared error over features with its interval. Shape () for errors (E, F), (H,) for (E, H, F)."""
        return bootstrap_ratio(*errors.by_recording(self.recordings), generator=generator)

    def skill_interval(
        self, ours: EpisodeErrors, theirs: EpisodeErrors, *, generator: np.random.Generator
    ) -> Interval:
        """1 − the ratio of two mean squared errors on the same steps, with its interval."""
        sums = [errors.by_recording(self.recordings)[0] for errors in (ours, theirs)]
        ratio = bootstrap_ratio(*sums, generator=generator)
        return Interval(1 - ratio.value, 1 - ratio.high, 1 - ratio.low)

    def valid_time(self, name: str, *, generator: np.random.Generator) -> Interval:
        """Median over starts of the steps for which a forecast stays valid, with its interval.

        A median of H steps means H or more. Times ``dt_s`` it is in seconds.

        Raises:
            ValueError: If there is no open loop.
        """
        if self.open_loop is None:
            raise ValueError(f"there is no open loop: {self.missing['open_loop']}")
        starts = group(self.open_loop.valid[name], self.recordings)
        return bootstrap_median(starts[starts.any(axis=1)], generator=generator)

    def _tables(self) -> dict[str, Mapping[str, EpisodeErrors]]:
        """Errors (E, F) of all forecasts on the same steps, by where they are made."""
        tables: dict[str, Mapping[str, EpisodeErrors]] = {"one step, cold": self.cold_start.errors}
        if self.warm is not None:
            tables["one step, warm"] = self.warm.errors
        if self.open_loop is not None:
            for steps in self.open_loop.horizons:
                errors = self.open_loop.errors.items()
                tables[f"open loop, {steps} step{'s' if steps > 1 else ''}"] = {
                    name: table.at(steps) for name, table in errors
                }
        return tables


def evaluate(
    model: NextStepModel,
    *,
    cold: Evaluation,
    train: Sequences,
    valid: Sequences,
    test: Windows,
    warmup: int = 50,
    horizon: int = 100,
    threshold: float = VALID_BELOW,
) -> EvaluationResult:
    """Evaluates a model on a test part, beside baselines that are fitted to the training part.

    Args:
        model: On any device.
        cold: Its one-step errors on the windows of ``test``.
        train: What the baselines are fitted to.
        valid: What they are chosen on.
        test: What model and baselines are judged on.
        warmup: Steps that are read before a forecast counts, and before an open loop starts; >= 2.
        horizon: Steps ahead in open loop, >= 1.
        threshold: Below which a forecast is valid, in training standard deviations.

    Raises:
        ValueError: If ``warmup`` or ``horizon`` is too small.
    """
    if warmup < 2 or horizon < 1:
        raise ValueError(f"a warm-up of 2 and a horizon of 1 at least, got {warmup} and {horizon}")
    sequences = test.sequences
    baselines = fit_baselines(train, valid, scalings=Scalings.of(model), longest=warmup)
    missing = {
        "warm": carried_state_unavailable(sequences, warmup=warmup),
        "open_loop": rollout_unavailable(sequences, warmup=warmup, horizon=horizon),
    }
    warm = None if missing["warm"] else evaluate_carried_state(model, baselines, sequences, warmup=warmup)
    open_loop = None
    if not missing["open_loop"]:
        open_loop = evaluate_open_loop(
            model, baselines, sequences, warmup=warmup, horizon=horizon, threshold=threshold
        )
    return EvaluationResult(
        feature_names=sequences.feature_names,
        units=sequences.units,
        scale=model.scaling.scale.double().cpu().numpy(),
        dt_s=sequences.dt_s,
        episode_names=sequences.episode_names,
        recordings=sequences.recordings,
        digest=sequences.digest,
        cold=cold,
        cold_start=evaluate_zero_state(model, test),
        warm=warm,
        open_loop=open_loop,
        missing={part: reason for part, reason in missing.items() if reason},
        chosen={baseline.name: baseline.chosen for baseline in baselines if baseline.chosen},
    )


def _baselines(errors: Mapping[str, EpisodeErrors]) -> list[str]:
    return [name for name in errors if name != MODEL]
