"""Evaluation of a trained model, told to the user, recorded and reported: what train and evaluate share."""

from foretrace.config import Evaluation
from foretrace.data.datamodule import WindowDataModule
from foretrace.evaluation.evaluate import evaluate
from foretrace.evaluation.inside.gates import look_inside
from foretrace.evaluation.metrics import evaluation_metrics
from foretrace.evaluation.references import References
from foretrace.evaluation.result import EvaluationResult
from foretrace.evaluation.storage import EVALUATION, save_evaluation
from foretrace.model.next_step import NextStepModel
from foretrace.reports import console
from foretrace.reports.report import shown_part, write_report
from foretrace.tracking.run import TrackedRun
from foretrace.training.module import VALID_MSE


def evaluate_and_report(
    model: NextStepModel,
    data: WindowDataModule,
    references: References,
    tracked: TrackedRun,
    settings: Evaluation,
    *,
    title: str,
    prefix: str = "",
) -> dict[str, float]:
    """Evaluate a model on the test part, tell the user, and record metrics, pictures and the page.

    Names in the record begin with the prefix.

    Returns:
        The test metrics by the names under which they are tracked; none where there is no test part.
    """
    epoch, metrics = len(tracked.history(VALID_MSE)[0]), dict[str, float]()
    result: EvaluationResult | None = None
    if (windows := data.windows.get("test")) is None:
        print(f"test     not done: {data.test_missing}")
        tracked.set_tags({f"{prefix}test": f"not done: {data.test_missing}"})
    else:
        result = evaluate(model, windows, references, settings=settings)
        print(console.evaluation(result, windows=len(windows), length=windows.length), flush=True)
        metrics, curves = evaluation_metrics(result)
        tracked.log_metrics(
            {prefix + name: value for name, value in metrics.items()}, step=epoch, replace=True
        )
        for name, curve in curves.items():
            for ahead, value in curve.items():
                tracked.log_metrics({prefix + name: value}, step=ahead, replace=True)
        tracked.set_tags({f"{prefix}worse_than": ", ".join(result.worse_than) or "none"})
        save_evaluation(result, tracked.folder / EVALUATION)
    inside = look_inside(model, data.windows["valid"], shown_part(data))
    tracked.log_metrics(
        {prefix + name: value for name, value in inside.metrics.items()}, step=epoch, replace=True
    )
    tracked.flush()
    write_report(
        tracked, title=title, model=model, data=data, references=references, result=result, inside=inside
    )
    return metrics
