"""The evaluation of a model on a test part, beside baselines that were fitted to its training part."""

from foretrace.config import Evaluation
from foretrace.data.windows import Windows
from foretrace.evaluation.forecast_errors import Groups
from foretrace.evaluation.one_step import (
    carried_state_unavailable,
    evaluate_carried_state,
    evaluate_zero_state,
)
from foretrace.evaluation.open_loop import evaluate_open_loop
from foretrace.evaluation.references import References
from foretrace.evaluation.result import EvaluationResult
from foretrace.evaluation.rollout import rollout_unavailable
from foretrace.model.next_step import NextStepModel


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
