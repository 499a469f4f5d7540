"""All that is found out about a model on a test part; figures, tracker, page and console are views of it.

Shapes: T steps of a window, G groups, H steps ahead, F features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from foretrace.config import Evaluation
from foretrace.data.windows import Windows
from foretrace.errors import UserError
from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.compare import (
    CARRIED_STATE,
    OPEN_LOOP,
    ZERO_STATE,
    Comparison,
    compare_errors,
    compare_with_baselines,
    in_words,
)
from foretrace.evaluation.forecast_errors import (
    CALIBRATED,
    MODEL,
    FloatArray,
    ForecastErrors,
    Groups,
    Interval,
    ratio_interval,
)
from foretrace.evaluation.one_step import (
    CarriedState,
    ZeroState,
    carried_state_unavailable,
    evaluate_carried_state,
    evaluate_zero_state,
)
from foretrace.evaluation.open_loop import OpenLoop, evaluate_open_loop
from foretrace.evaluation.references import References
from foretrace.evaluation.rollout import rollout_unavailable
from foretrace.model.next_step import NextStepModel


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationResult:
    """A model's errors on a test part: one step ahead from a zero and a carried state, and in open loop.

    All errors are in scaled units, of the model's training standard deviation per feature; those in a feature's
    own unit are ``errors.in_units(result.scale)``. Every interval comes from the same draws, so a figure that is
    shown twice is the same twice.

    Args:
        feature_names: F names.
        units: F units; empty where unknown.
        scale: Of each feature, in its unit. Shape (F,).
        dt_s: Time from one row to the next; None where unknown.
        num_episodes: Episodes of the test part.
        num_recordings: Recordings that these are pieces of.
        grouped_by: What is drawn to find an interval: recordings, or stretches of time of fewer than five.
        digest: Of the test part: two runs can be compared if it is the same.
        zero_state: One-step errors on whole windows from a state of zero, as published.
        carried_state: One-step errors with the state carried; None if no episode is long enough.
        open_loop: Errors of forecasts that feed on themselves; None where that is not defined.
        unavailable: Why ``carried_state`` or ``open_loop`` is None, or which ``intervals`` there are not.
        calibrated_on: What the intervals were fitted to, in words; empty where there are none.
        naive: Mean absolute error in training of repeating the value of a season ago, or the last one: the unit of the
            MASE. Shape (F,).
        boosting: Errors (G, F) of gradient boosting in open loop, by steps ahead; empty where it was not asked for.
        chosen: What was chosen on training and validation data, per baseline.
    """

    feature_names: tuple[str, ...]
    units: tuple[str, ...]
    scale: FloatArray
    dt_s: float | None
    num_episodes: int
    num_recordings: int
    grouped_by: Literal["recording", "time"]
    digest: str
    zero_state: ZeroState
    carried_state: CarriedState | None
    open_loop: OpenLoop | None
    unavailable: dict[str, str] = field(default_factory=dict)
    calibrated_on: str = ""
    naive: FloatArray | None = None
    boosting: dict[int, ForecastErrors] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def in_time(self) -> bool:
        """Whether groups follow one another in time."""
        return self.grouped_by == "time"

    @property
    def skill(self) -> float:
        """1 - MSE / MSE of repeating the last value, from a state of zero: 1 is perfect, 0 no better."""
        errors = self.zero_state.errors
        return float(skill(errors[MODEL].mean_mse, errors[PERSISTENCE].mean_mse))

    @cached_property
    def verdicts(self) -> tuple[Comparison, ...]:
        """The model against each baseline, one step ahead and at each reported horizon."""
        return compare_with_baselines(self.tables(), in_time=self.in_time)

    @property
    def sentences(self) -> list[str]:
        """The verdicts in words, the bad ones first; then how good the intervals are."""
        crps = [f"CRPS {line}" for line in in_words(self.crps_verdicts)]
        return [line for line in (*in_words(self.verdicts), *crps, self.coverage_sentence) if line]

    @cached_property
    def crps_verdicts(self) -> tuple[Comparison, ...]:
        """The model's intervals against each baseline's, at each reported horizon."""
        loop = self.open_loop
        if loop is None or not loop.intervals:
            return ()
        tables: dict[str, dict[str, ForecastErrors]] = {}
        for steps in loop.horizons:
            table = tables[f"{OPEN_LOOP}/{steps}"] = {}
            for name, scores in loop.intervals.items():
                score = scores.score[:, steps - 1, None]  # (G, 1)
                errors = ForecastErrors(squared=score, absolute=score, count=scores.count)
                table[MODEL if name == CALIBRATED else name] = errors
        return compare_with_baselines(tables, in_time=self.in_time)

    @cached_property
    def coverage_sentence(self) -> str:
        """How much of what came the widest intervals cover; empty where there are none."""
        loop = self.open_loop
        if loop is None or not loop.intervals:
            return ""
        return loop.intervals[CALIBRATED].describe(loop.horizons, in_time=self.in_time)

    @property
    def worse_than(self) -> tuple[str, ...]:
        """Baselines that the model is worse than somewhere, by more than chance."""
        return tuple(dict.fromkeys(c.names[1] for c in self.verdicts if c.verdict == "worse"))

    def tables(self) -> dict[str, Mapping[str, ForecastErrors]]:
        """Return errors (G, F) of all forecasts on the same steps, by where they are made; see `Comparison`.

        The model's forecasts in open loop are those that are given, see `OpenLoop.given`.
        """
        tables: dict[str, Mapping[str, ForecastErrors]] = {ZERO_STATE: self.zero_state.errors}
        if self.carried_state is not None:
            tables[CARRIED_STATE] = self.carried_state.errors
        if (loop := self.open_loop) is not None:
            given = loop.errors | {MODEL: loop.given}
            for steps in loop.horizons:
                table = {name: errors.at(steps) for name, errors in given.items() if name != CALIBRATED}
                boosting = {"boosting": self.boosting[steps]} if steps in self.boosting else {}
                tables[f"{OPEN_LOOP}/{steps}"] = table | boosting
        return tables

    def mase(self, errors: ForecastErrors) -> FloatArray | None:
        """Return the mean absolute scaled error over features that vary, () or (H,); None where that is unknown."""
        if self.naive is None or not (varies := self.naive > 0).any():
            return None
        return np.asarray((errors.l1[..., varies] / self.naive[varies]).mean(axis=-1))

    def mse_interval(self, errors: ForecastErrors) -> Interval:
        """Return the mean squared error over features with its interval. Shape () or (H,)."""
        counted, generator = errors.count > 0, np.random.default_rng(0)
        sums = errors.squared[counted].mean(axis=-1)
        return ratio_interval(sums, errors.count[counted], generator=generator, in_time=self.in_time)

    def compare(self, other: "EvaluationResult", *, names: tuple[str, str]) -> dict[str, Comparison]:
        """Compare two runs by group, in everything that both measured on the same steps.

        Errors are in the units of the first run: two runs that were trained on different data scale differently.

        Returns:
            By what is compared: ``zero_state``, ``carried_state``, and ``open_loop/<steps>`` for each horizon.

        Raises:
            UserError: If they were evaluated on different test episodes, or on no common steps.
        """
        first, second = names
        if self.digest != other.digest:
            both = [f"{run.digest[:12]} ({run.num_episodes} episodes)" for run in (self, other)]
            raise UserError(
                f"{first} and {second} were evaluated on different test data, {both[0]} and {both[1]}",
                hint="Evaluate one of them on the other's data first.",
            )
        ours, theirs, scale = self.tables(), other.tables(), other.scale / self.scale
        pairs = {where: (ours[where][MODEL], theirs[where][MODEL]) for where in ours if where in theirs}
        found = {
            where: compare_errors(a, b, names=names, where=where, in_time=self.in_time, scale=scale)
            for where, (a, b) in pairs.items()
            if np.array_equal(a.count, b.count) and self._settings(where) == other._settings(where)
        }
        if not found:
            raise UserError(
                f"{first} and {second} were evaluated on different steps of the same data",
                hint="Evaluate one of them again with the other's window, warm-up and horizon.",
            )
        return found

    def _settings(self, where: str) -> tuple[int, ...]:
        """Return what decides which steps are forecast, and from how much."""
        if where == ZERO_STATE:
            return (len(self.zero_state.by_position[MODEL]),)
        if where == CARRIED_STATE:
            return (self.carried_state.warmup,) if self.carried_state else ()
        return (self.open_loop.warmup, self.open_loop.horizon) if self.open_loop else ()


def evaluate(
    model: NextStepModel, test: Windows, references: References, *, settings: Evaluation
) -> EvaluationResult:
    """Evaluate a model, on any device, on a test part; see `fit_references` for what it is held against."""
    sequences, warmup, horizon = test.sequences, settings.warmup, settings.horizon
    baselines = references.baselines
    groups = Groups.of(sequences, stretch=horizon)
    unavailable = {
        "carried_state": carried_state_unavailable(sequences, warmup=warmup),
        "open_loop": rollout_unavailable(sequences, warmup=warmup, horizon=horizon),
        "intervals": references.unavailable,
    }
    carried_state = open_loop = None
    if not unavailable["carried_state"]:
        carried_state = evaluate_carried_state(model, baselines, sequences, groups, warmup=warmup)
    if not unavailable["open_loop"]:
        open_loop = evaluate_open_loop(model, references, sequences, groups, warmup=warmup, horizon=horizon)
    boosting = {}
    if open_loop is not None and references.boosting is not None:
        boosting = references.boosting.evaluate(sequences, groups, warmup=warmup, horizon=horizon)
    return EvaluationResult(
        feature_names=sequences.feature_names,
        units=sequences.units,
        scale=model.scaling.scale.double().cpu().numpy(),
        dt_s=sequences.dt_s,
        num_episodes=len(sequences),
        num_recordings=len(set(sequences.recordings)),
        grouped_by=groups.by,
        digest=sequences.digest,
        zero_state=evaluate_zero_state(model, test, groups),
        carried_state=carried_state,
        open_loop=open_loop,
        unavailable={part: reason for part, reason in unavailable.items() if reason},
        naive=references.naive,
        boosting=boosting,
        calibrated_on=references.calibration.origin if references.calibration else "",
        chosen={baseline.name: baseline.chosen for baseline in baselines if baseline.chosen},
    )


def skill(mse: npt.ArrayLike, reference_mse: npt.ArrayLike) -> FloatArray:
    """Return the share of the reference's mean squared errors that is saved; any shapes that broadcast.

    >>> skill([0.25, 0.0, 1.0], [1.0, 0.0, 0.0]).tolist()
    [0.75, 0.0, -inf]
    """
    ours, reference = np.asarray(mse), np.asarray(reference_mse)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reference > 0, 1 - ours / reference, np.where(ours > 0, -np.inf, 0.0))
