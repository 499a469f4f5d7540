"""What is found out about a trained model: figures for the record, pictures, and one page for a reader."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from foretrace.config import Evaluation
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.sequences import Sequences
from foretrace.data.simulation.kinematics import locate_limbs
from foretrace.data.simulation.robots import ROBOTS
from foretrace.evaluation.episode_errors import MODEL, FloatArray
from foretrace.evaluation.evaluate import EvaluationResult, evaluate
from foretrace.evaluation.inside.gates import episode_gates, summarize_gates
from foretrace.evaluation.inside.gradients import GradientFlow, gradient_flow
from foretrace.evaluation.metrics import evaluation_metrics
from foretrace.evaluation.one_step import evaluate_one_step, forecast_episode
from foretrace.evaluation.rollout import OpenLoop, rollout
from foretrace.evaluation.storage import save_evaluation
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.reports import console, html
from foretrace.reports.figures import forecasts, inside, learning, quality, skeleton
from foretrace.tracking.run import TrackedRun
from foretrace.training.forecaster import TRAIN_LOSS, VALID_MSE, Forecaster

PICTURED_STEPS = 200  # of the first test episode: as many columns as a picture shows apart
RESIDUAL_EPISODES, MOST_STEPS = 8, 2000  # of an episode: enough to see a distribution
WATCHED_WINDOWS = 8
ASSESSMENT, REPORT = "assessment.npz", "report.html"
LayerGates = dict[str, dict[str, npt.NDArray[np.float32]]]  # by layer and by name, see foretrace.model.gates


def review(
    forecaster: Forecaster,
    data: WindowDataModule,
    tracked: TrackedRun,
    settings: Evaluation,
    *,
    title: str,
    prefix: str = "",
) -> dict[str, float]:
    """Judges a model on the test part, tells the reader, and records figures, pictures and the page.

    Args:
        forecaster: On any device.
        data: What it was trained on, or other data with the same features.
        tracked: Where the record goes.
        settings: Warm-up and horizon.
        title: Of the page.
        prefix: What the names in the record begin with.

    Returns:
        The test metrics by the names under which they are tracked; none where there is no test part.
    """
    assessment = _assess(forecaster, data, settings)
    metrics = evaluation_metrics(assessment) if assessment else {}
    flow, gates = _look_inside(forecaster.model, data)
    lines = flow.diagnosis() + _record_gates(gates, tracked, prefix)
    if assessment is None:
        print(f"test     not done: {data.test_missing}")
        tracked.set_tags({f"{prefix}test": f"not done: {data.test_missing}"})
    else:
        tracked.log_metrics({prefix + name: value for name, value in metrics.items()}, step=_epochs(tracked))
        tracked.set_tags({f"{prefix}worse_than": ", ".join(assessment.worse_than) or "none"})
        save_evaluation(assessment, tracked.folder / ASSESSMENT)
    tracked.flush()
    tracked.log_figures(_pictures(forecaster, data, tracked, assessment, flow, gates))
    _animate(forecaster.model, data, tracked, settings)
    findings = html.Findings(
        title=title,
        data=data,
        parameters=count_parameters(forecaster.model),
        assessment=assessment,
        images={path.stem: path.read_bytes() for path in (tracked.folder / "figures").iterdir()},
        inside=lines,
        settings=tracked.logged_params(),
        provenance=tracked.logged_tags(),
        missing=data.test_missing,
    )
    tracked.log_text(REPORT, html.compose(findings))
    return metrics


def _assess(forecaster: Forecaster, data: WindowDataModule, settings: Evaluation) -> EvaluationResult | None:
    if "test" not in data.windows:
        return None
    windows = data.windows["test"]
    names = windows.sequences.feature_names
    cold = evaluate_one_step(forecaster.model, data.test_dataloader(), feature_names=names)
    assessment = evaluate(
        forecaster.model,
        cold=cold,
        train=data.windows["train"].sequences,
        valid=data.windows["valid"].sequences,
        test=windows,
        warmup=settings.warmup,
        horizon=settings.horizon,
    )
    print(console.result(cold, windows=len(windows), length=windows.length))
    print(console.beside_baselines(assessment), flush=True)
    return assessment


def _epochs(tracked: TrackedRun) -> int:
    """How many the run has trained: a run that goes on after its evaluation is evaluated again, later."""
    return len(tracked.history(VALID_MSE)[0])


def _look_inside(model: NextStepModel, data: WindowDataModule) -> tuple[GradientFlow, LayerGates]:
    """Gradients of some windows, and the gates over the episode that is shown, each (T, H)."""
    windows = data.windows["valid"]
    chosen = torch.linspace(0, len(windows) - 1, min(WATCHED_WINDOWS, len(windows))).round().long()
    found = episode_gates(model, _shown(data), 0, max_steps=MOST_STEPS)
    gates = {layer: {n: gate.numpy() for n, gate in one._asdict().items()} for layer, one in found.items()}
    return gradient_flow(model, windows.gather(chosen)), gates


def _record_gates(gates: LayerGates, tracked: TrackedRun, prefix: str) -> list[str]:
    """Records the gates' summary; returns a line for each layer."""
    lines, step = [], _epochs(tracked)
    for layer, named in gates.items():
        found = summarize_gates(**named)
        tracked.log_metrics({prefix + name: value for name, value in found.metrics(layer).items()}, step=step)
        lines.append(found.describe(layer))
    return lines


def _pictures(
    forecaster: Forecaster,
    data: WindowDataModule,
    tracked: TrackedRun,
    assessment: EvaluationResult | None,
    flow: GradientFlow,
    gates: LayerGates,
) -> Iterator[tuple[str, Figure]]:
    pictures = [_data(data, forecaster.model), _curves(tracked), _forecasts(forecaster, _shown(data))]
    return chain(*pictures, _quality(assessment), _inside(flow, gates, _shown(data)))


def _shown(data: WindowDataModule) -> Sequences:
    return data.windows.get("test", data.windows["valid"]).sequences


def _data(data: WindowDataModule, model: NextStepModel) -> Iterator[tuple[str, Figure]]:
    mean, scale = (buffer.cpu().numpy() for buffer in model.scaling.buffers())
    quantiles = {}
    for part, windows in data.windows.items():
        sequences = windows.sequences
        some = np.linspace(0, len(sequences) - 1, min(len(sequences), 64)).astype(int)
        episodes = [sequences.episode(e) for e in some]
        rows = np.concatenate([episode[:: -(-len(episode) // MOST_STEPS)] for episode in episodes])
        quantiles[part] = np.quantile((rows - mean) / scale, (0.01, 0.25, 0.5, 0.75, 0.99), axis=0)
    names = data.windows["train"].sequences.feature_names
    yield "distributions", quality.distributions(quantiles, feature_names=names)


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
    mean, scale = (buffer.cpu().numpy() for buffer in forecaster.model.scaling.buffers())
    names, dt_s, title = (
        sequences.feature_names,
        sequences.dt_s,
        f"{sequences.episode_names[0]}, one step ahead",
    )
    prediction, truth = forecast_episode(forecaster.model, sequences, 0, max_steps=PICTURED_STEPS)
    scaled = [(raw - mean) / scale for raw in (prediction, truth)]
    pictures = forecasts.prediction_and_truth(*scaled, feature_names=names, dt_s=dt_s, title=title)
    yield "prediction_and_truth", pictures
    lines = forecasts.feature_lines(
        prediction, truth, feature_names=names, units=sequences.units, dt_s=dt_s, title=title
    )
    yield "features", lines
    errors = []
    for episode in range(min(len(sequences), RESIDUAL_EPISODES)):
        prediction, truth = forecast_episode(forecaster.model, sequences, episode, max_steps=MOST_STEPS)
        errors.append((prediction - truth) / scale)
    yield "residuals", quality.residuals(errors)


def _quality(assessment: EvaluationResult | None) -> Iterator[tuple[str, Figure]]:
    if assessment is None:
        return
    positions = assessment.cold_start.by_position
    warm = float(assessment.warm.errors[MODEL].mean_mse) if assessment.warm else None
    curves = {name: assessment.cold_start.mean_by_position(name) for name in positions}
    yield "error_by_position", quality.error_by_position(curves, warm=warm)
    if (loop := assessment.open_loop) is not None:
        band = assessment.mse_interval(loop.errors[MODEL], generator=np.random.default_rng(0))
        ends = (band.low, band.high) if band.known else (None, None)
        errors = {name: table.mean_mse for name, table in loop.errors.items()}
        yield (
            "error_by_horizon",
            quality.error_by_horizon(errors, low=ends[0], high=ends[1], dt_s=assessment.dt_s),
        )
        skills = _skill_by_feature(loop)
        names = assessment.feature_names
        yield "skill_map", quality.skill_map(skills, feature_names=names, horizons=loop.horizons)


def _skill_by_feature(loop: OpenLoop) -> FloatArray:
    """Skill against persistence. Shape (F, reported horizons)."""
    at = [steps - 1 for steps in loop.horizons]
    ours, last = (loop.errors[name].mse[at].T for name in (MODEL, "persistence"))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.where(last > 0, 1 - ours / last, np.where(ours > 0, -np.inf, 0.0))
    return found


def _inside(flow: GradientFlow, gates: LayerGates, sequences: Sequences) -> Iterator[tuple[str, Figure]]:
    yield "gradients", inside.gradient_flow(flow.h, flow.c, layers=flow.layers)
    first = {layer: {n: gate[:PICTURED_STEPS] for n, gate in named.items()} for layer, named in gates.items()}
    yield "gates", inside.gate_pictures(first, dt_s=sequences.dt_s, title=sequences.episode_names[0])


def _animate(model: NextStepModel, data: WindowDataModule, tracked: TrackedRun, settings: Evaluation) -> None:
    """Shows a robot's open loop as it would be seen, where the data are a robot's."""
    sequences = _shown(data)
    robot = next((n for n, kind in ROBOTS.items() if kind.feature_names == sequences.feature_names), None)
    rows = settings.warmup + settings.horizon
    if robot is None or sequences.dt_s is None or sequences.lengths[0] < rows:
        return
    values = torch.from_numpy(sequences.episode(0)[None, :rows].copy()).to(model.change.device)
    with torch.inference_mode():
        x = model.scaling(values)
        covariates = x.new_zeros(1, rows, 0)
        forecast = rollout(model, x[:, : settings.warmup], covariates, horizon=settings.horizon)
        error = (forecast - x[:, settings.warmup :]).square().mean(dim=-1).sqrt()[0].cpu().numpy()
        runs = [
            run[0].cpu().numpy() for run in (values[:, settings.warmup :], model.scaling.inverse(forecast))
        ]
    limbs = locate_limbs(robot, runs, dt_s=sequences.dt_s)
    if limbs is not None:
        animation = skeleton.animate(*limbs, error=error, dt_s=sequences.dt_s)
        (tracked.folder / "figures" / "animation.gif").write_bytes(animation)
        strip = skeleton.filmstrip(*limbs, error=error, dt_s=sequences.dt_s)
        tracked.log_figures([("filmstrip", strip)])
