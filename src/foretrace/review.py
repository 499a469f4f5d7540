"""What is found out about a trained model: figures for the record, pictures, and one page for a reader."""

from collections.abc import Iterator

import torch
from matplotlib.figure import Figure

from foretrace import summary
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.sequences import Sequences
from foretrace.evaluation.archive import save_assessment
from foretrace.evaluation.assessment import assess
from foretrace.evaluation.gates import episode_gates, summarize_gates
from foretrace.evaluation.gradients import gradient_flow
from foretrace.evaluation.metrics import assessment_metrics
from foretrace.evaluation.one_step import evaluate_one_step, forecast_episode
from foretrace.figures import forecasts, inside, learning
from foretrace.forecaster import TRAIN_LOSS, VALID_MSE, Forecaster
from foretrace.settings import Evaluation
from foretrace.tracking.run import TrackedRun

PICTURED_STEPS = 200  # of the first test episode: as many columns as a picture shows apart
ASSESSMENT = "assessment.npz"


def evaluate(
    forecaster: Forecaster,
    data: WindowDataModule,
    tracked: TrackedRun,
    settings: Evaluation,
    *,
    prefix: str = "",
) -> dict[str, float]:
    """Judges the model on the test part, tells the reader, and records it, under names that begin with ``prefix``.

    Returns:
        The test metrics by the names under which they are tracked; none where there is no test part.
    """
    if "test" not in data.windows:
        print(f"test     not done: {data.test_missing}")
        tracked.tags({"test": f"not done: {data.test_missing}"})
        return {}
    windows = data.windows["test"]
    names = windows.sequences.feature_names
    cold = evaluate_one_step(forecaster.model, data.test_dataloader(), feature_names=names)
    print(summary.result(cold, windows=len(windows), length=windows.length))
    assessment = assess(
        forecaster.model,
        cold=cold,
        train=data.windows["train"].sequences,
        valid=data.windows["valid"].sequences,
        test=windows,
        warmup=settings.warmup,
        horizon=settings.horizon,
    )
    print(summary.beside_baselines(assessment))
    metrics = assessment_metrics(assessment)
    tracked.metrics({prefix + name: value for name, value in metrics.items()}, step=0)
    tracked.tags({f"{prefix}loses_to": ", ".join(assessment.loses_to) or "none"})
    save_assessment(assessment, tracked.folder / ASSESSMENT)
    return metrics


def picture(forecaster: Forecaster, data: WindowDataModule, tracked: TrackedRun) -> None:
    """Draws the training, forecasts beside what came, and the network's inside."""
    sequences = data.windows.get("test", data.windows["valid"]).sequences
    tracked.figures(_curves(tracked))
    tracked.figures(_forecasts(forecaster, sequences))
    tracked.figures(_inside(forecaster, data, sequences, tracked))


def _curves(tracked: TrackedRun) -> Iterator[tuple[str, Figure]]:
    """None in a run that only judges."""
    batches, losses = tracked.history(TRAIN_LOSS)
    if batches:
        yield "train_loss_by_batch", learning.loss_by_batch(batches, losses, name=TRAIN_LOSS)
    epochs, train = tracked.history(f"{TRAIN_LOSS}/epoch")
    if epochs:
        valid, rates = tracked.history(VALID_MSE)[1], tracked.history("lr")[1]
        best = epochs[valid.index(min(valid))] if len(valid) == len(epochs) else None
        figure = learning.error_by_epoch(epochs, train=train, valid=valid, lr=rates, best_epoch=best)
        yield "error_by_epoch", figure
    epochs, _ = tracked.history("weights/head/norm")
    if epochs:
        names = [name.split("/")[1] for name in tracked.names("weights/") if name.endswith("/norm")]
        norms, updates = (
            {n: tracked.history(f"weights/{n}/{what}")[1] for n in names} for what in ("norm", "update")
        )
        yield "layer_norms", inside.layer_norms(epochs, norms=norms, updates=updates)


def _forecasts(forecaster: Forecaster, sequences: Sequences) -> Iterator[tuple[str, Figure]]:
    prediction, truth = forecast_episode(forecaster.model, sequences, 0, max_steps=PICTURED_STEPS)
    mean, scale = (buffer.cpu().numpy() for buffer in forecaster.model.scaling.buffers())
    scaled = [(raw - mean) / scale for raw in (prediction, truth)]
    names, dt_s, title = (
        sequences.feature_names,
        sequences.dt_s,
        f"{sequences.episode_names[0]}, one step ahead",
    )
    pictures = forecasts.prediction_and_truth(*scaled, feature_names=names, dt_s=dt_s, title=title)
    yield "prediction_and_truth", pictures
    units = sequences.units
    yield (
        "features",
        forecasts.feature_lines(prediction, truth, feature_names=names, units=units, dt_s=dt_s, title=title),
    )


def _inside(
    forecaster: Forecaster, data: WindowDataModule, sequences: Sequences, tracked: TrackedRun
) -> Iterator[tuple[str, Figure]]:
    windows = data.windows["valid"]
    some = torch.linspace(0, len(windows) - 1, min(8, len(windows))).round().long()
    flow = gradient_flow(forecaster.model, windows.gather(some))
    yield "gradients", inside.gradient_flow(flow.h, flow.c, layers=flow.layers)
    gates = {
        layer: {name: gate.numpy() for name, gate in found._asdict().items()}
        for layer, found in episode_gates(forecaster.model, sequences, 0).items()
    }
    for layer, found in gates.items():
        tracked.metrics(summarize_gates(**found).metrics(layer), step=0)
    shown = {
        layer: {name: gate[:PICTURED_STEPS] for name, gate in found.items()} for layer, found in gates.items()
    }
    yield "gates", inside.gate_pictures(shown, dt_s=sequences.dt_s, title=sequences.episode_names[0])
