"""The evaluation of a model on a test part, beside baselines that were fitted to its training part."""

from foretrace.config import Evaluation
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import fit_baselines
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import Groups
from foretrace.evaluation.one_step import (
    carried_state_unavailable,
    evaluate_carried_state,
    evaluate_zero_state,
)
from foretrace.evaluation.result import EvaluationResult
from foretrace.evaluation.rollout import evaluate_open_loop, rollout_unavailable
from foretrace.model.next_step import NextStepModel


def evaluate(
    model: NextStepModel, *, train: Sequences, valid: Sequences, test: Windows, settings: Evaluation
) -> EvaluationResult:
    """Evaluate a model on a test part.

    Args:
        model: On any device.
        train: What the baselines are fitted to.
        valid: What they are chosen on.
        test: What model and baselines are evaluated on.
        settings: Warm-up, horizon and more.
    """
    sequences, warmup, horizon = test.sequences, settings.warmup, settings.horizon
    baselines = fit_baselines(train, valid, scalings=Scalings.of(model), longest=warmup)
    groups = Groups.of(sequences, stretch=horizon)
    unavailable = {
        "carried_state": carried_state_unavailable(sequences, warmup=warmup),
        "open_loop": rollout_unavailable(sequences, warmup=warmup, horizon=horizon),
    }
    carried_state = open_loop = None
    if not unavailable["carried_state"]:
        carried_state = evaluate_carried_state(model, baselines, sequences, groups, warmup=warmup)
    if not unavailable["open_loop"]:
        open_loop = evaluate_open_loop(model, baselines, sequences, groups, warmup=warmup, horizon=horizon)
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
        chosen={baseline.name: baseline.chosen for baseline in baselines if baseline.chosen},
    )
