"""What is drawn and written about a trained model: pictures, and one page for a reader."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from foretrace.data.datamodule import WindowDataModule
from foretrace.data.sequences import Sequences
from foretrace.data.simulation.kinematics import can_locate_limbs, locate_limbs
from foretrace.data.simulation.robots import ROBOTS
from foretrace.evaluation.calibration import Calibration
from foretrace.evaluation.forecast_errors import CALIBRATED, MODEL, FloatArray
from foretrace.evaluation.inside.overview import Inside
from foretrace.evaluation.one_step import forecast_episodes
from foretrace.evaluation.open_loop import OpenLoop
from foretrace.evaluation.progress import track
from foretrace.evaluation.references import References
from foretrace.evaluation.result import EvaluationResult
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.reports import page
from foretrace.reports.figures import forecasts, learning, quality, robot
from foretrace.reports.figures import inside as network
from foretrace.training.module import TRAIN_LOSS, VALID_MSE

PICTURED_STEPS = 200  # of the first test episode: as many columns as a picture shows apart
RESIDUAL_EPISODES, MOST_STEPS = 8, 2000  # of an episode: enough to see a distribution
REPORT = "report.html"


class ReportedRun(Protocol):
    """What a report needs of a run."""

    folder: Path

    def history(self, name: str) -> tuple[list[int], list[float]]:
        """Return steps and values of a metric."""

    def names(self, start: str) -> list[str]:
        """Return names of the metrics that begin with ``start``."""

    def logged_params(self) -> dict[str, str]:
        """Return the settings."""

    def logged_tags(self) -> dict[str, str]:
        """Return the labels."""

    def log_figures(self, named: Iterable[tuple[str, Figure]]) -> None:
        """Keep pictures as ``figures/<name>.png``."""

    def log_text(self, path: str, text: str) -> None:
        """Keep a text as a file."""


def write_report(
    run: ReportedRun,
    *,
    title: str,
    model: NextStepModel,
    data: WindowDataModule,
    references: References,
    result: EvaluationResult | None,
    inside: Inside,
) -> None:
    """Draw all pictures of a run and write its page.

    Args:
        run: Where they go.
        title: Of the page.
        model: What was evaluated.
        data: On what.
        references: With the intervals of its forecasts.
        result: The evaluation; None where there is no test part.
        inside: Gradients, and gates over the first episode of the part that is shown.
    """
    drawn = draw(run, model=model, data=data, references=references, result=result, inside=inside)
    run.log_figures(track(drawn, "drawing pictures"))
    if result is not None and result.open_loop is not None:
        draw_motion(run.folder / "figures" / "animation.gif", model, shown_part(data), result.open_loop)
    found = page.Findings(
        title=title,
        data=data,
        parameters=count_parameters(model),
        result=result,
        images={path.stem: path.read_bytes() for path in (run.folder / "figures").iterdir()},
        inside=inside.lines,
        settings=run.logged_params(),
        provenance=run.logged_tags(),
    )
    run.log_text(REPORT, page.compose(found))


def draw(
    run: ReportedRun,
    *,
    model: NextStepModel,
    data: WindowDataModule,
    references: References,
    result: EvaluationResult | None,
    inside: Inside,
) -> Iterator[tuple[str, Figure]]:
    """Yield each picture with its name."""
    sequences = shown_part(data)
    yield "distributions", _distributions(data, model)
    yield from _learning(run)
    yield from _forecasts(model, sequences)
    if result is not None:
        yield from _quality(result)
        if result.open_loop is not None and references.calibration is not None:
            yield "fan_chart", _fan_chart(model, sequences, references.calibration, result.open_loop)
    flow, steps = inside.flow, PICTURED_STEPS
    yield "gradients", network.gradient_flow(flow.h, flow.c, layers=flow.layers)
    first = {layer: {n: gate[:steps] for n, gate in named.items()} for layer, named in inside.gates.items()}
    dates, title = dates_of(sequences, 0, steps), f"First episode, {sequences.episode_names[0]}"
    yield "gates", network.gate_pictures(first, dt_s=sequences.dt_s, dates=dates, title=title)


def shown_part(data: WindowDataModule) -> Sequences:
    """Return the part whose first episode is shown."""
    return data.windows.get("test", data.windows["valid"]).sequences


def _distributions(data: WindowDataModule, model: NextStepModel) -> Figure:
    mean, scale = (buffer.cpu().numpy() for buffer in model.scaling.buffers())
    quantiles = {}
    for part, windows in data.windows.items():
        sequences = windows.sequences
        some = np.linspace(0, len(sequences) - 1, min(len(sequences), 64)).astype(int)
        episodes = [sequences.episode(e) for e in some]
        rows = np.concatenate([episode[:: -(-len(episode) // MOST_STEPS)] for episode in episodes])
        quantiles[part] = np.quantile((rows - mean) / scale, (0.01, 0.25, 0.5, 0.75, 0.99), axis=0)
    return quality.distributions(quantiles, feature_names=data.windows["train"].sequences.feature_names)


def _learning(run: ReportedRun) -> Iterator[tuple[str, Figure]]:
    """None in a run that only evaluates."""
    batches, losses = run.history(TRAIN_LOSS)
    if batches:
        yield "train_loss_by_batch", learning.loss_by_batch(batches, losses, name=TRAIN_LOSS)
    epochs, train = run.history(f"{TRAIN_LOSS}/epoch")
    if epochs:
        valid, rates = run.history(VALID_MSE)[1], run.history("lr")[1]
        best = epochs[valid.index(min(valid))] if len(valid) == len(epochs) else None
        figure = learning.error_by_epoch(epochs, train=train, valid=valid, lr=rates, best_epoch=best)
        yield "error_by_epoch", figure
    epochs, _ = run.history("weights/head/norm")
    if epochs:
        names = [name.split("/")[1] for name in run.names("weights/") if name.endswith("/norm")]
        norms, updates = (
            {n: run.history(f"weights/{n}/{what}")[1] for n in names} for what in ("norm", "update")
        )
        yield "layer_norms", network.layer_norms(epochs, norms=norms, updates=updates)


def _forecasts(model: NextStepModel, sequences: Sequences) -> Iterator[tuple[str, Figure]]:
    mean, scale = (buffer.cpu().numpy() for buffer in model.scaling.buffers())
    count = min(len(sequences), RESIDUAL_EPISODES)
    pairs = forecast_episodes(model, sequences, count=count, max_steps=MOST_STEPS)
    first = [values[:PICTURED_STEPS] for values in pairs[0]]
    shown: dict[str, Any] = {
        "feature_names": sequences.feature_names,
        "dt_s": sequences.dt_s,
        "dates": dates_of(sequences, 1, len(first[0])),
        "title": f"First episode, {sequences.episode_names[0]}, one step ahead",
    }
    scaled = [(raw - mean) / scale for raw in first]
    yield "prediction_and_truth", forecasts.prediction_and_truth(*scaled, **shown)
    yield "features", forecasts.feature_lines(*first, units=sequences.units, **shown)
    yield "residuals", quality.residuals([(prediction - truth) / scale for prediction, truth in pairs])


def _fan_chart(
    model: NextStepModel, sequences: Sequences, calibration: Calibration, loop: OpenLoop
) -> Figure:
    """Show a forecast of the first episode that has room for one, as it is given, and what came."""
    rows = loop.warmup + loop.horizon
    episode = int((sequences.lengths >= rows).argmax())
    first = int(sequences.bounds[episode, 0])
    values, known = (
        torch.from_numpy(part[first : first + rows].copy())
        for part in (sequences.values, sequences.covariates)
    )
    device = model.change.device
    with torch.inference_mode():
        x = model.scaling(values[None, : loop.warmup].to(device))
        raw, spread = model.rollout(x, known[None, :-1].to(device), horizon=loop.horizon)
    mean, scale = (buffer.cpu().numpy() for buffer in model.scaling.buffers())
    limits = calibration.limits(raw.cpu().numpy(), None if spread is None else spread.cpu().numpy())
    point, lower, upper = (mean + scale * some for some in limits)
    ends = zip(calibration.levels, lower[:, 0], upper[:, 0], strict=True)
    dates = (
        None if sequences.times is None or not sequences.has_dates else sequences.times[first : first + rows]
    )
    return forecasts.fan_chart(
        values[: loop.warmup].numpy(),
        point[0],
        bands={level: (low, high) for level, low, high in ends},
        truth=values[loop.warmup :].numpy(),
        feature_names=sequences.feature_names,
        units=sequences.units,
        dt_s=sequences.dt_s,
        dates=None if dates is None else dates.astype("datetime64[ns]"),
        title=f"{sequences.episode_names[episode]}: a forecast of {loop.horizon} steps with its intervals",
    )


def dates_of(sequences: Sequences, first: int, count: int) -> npt.NDArray[np.datetime64] | None:
    """Return dates of rows of the first episode, where they are known. Shape (count,)."""
    if sequences.times is None or not sequences.has_dates or sequences.next_values is not None:
        return None
    start, end = sequences.bounds[0]
    return sequences.times[start + first : min(end, start + first + count)].astype("datetime64[ns]")


def _quality(result: EvaluationResult) -> Iterator[tuple[str, Figure]]:
    zero_state, state = result.zero_state, result.carried_state
    carried = float(state.errors[MODEL].mean_mse) if state else None
    curves = {name: zero_state.mean_by_position(name) for name in zero_state.by_position}
    yield "error_by_position", quality.error_by_position(curves, carried=carried)
    if (loop := result.open_loop) is not None:
        given = loop.errors.get(CALIBRATED, loop.errors[MODEL])
        band = result.mse_interval(given)
        ends = (band.low, band.high) if band.known else (None, None)
        errors = {n: e.mean_mse for n, e in loop.errors.items() if n != CALIBRATED}
        if CALIBRATED in loop.errors:
            errors |= {f"{MODEL}, not calibrated": errors[MODEL], MODEL: given.mean_mse}
        figure = quality.error_by_horizon(errors, low=ends[0], high=ends[1], dt_s=result.dt_s)
        yield "error_by_horizon", figure
        if scores := loop.intervals.get(CALIBRATED):
            found = scores.coverage_interval(in_time=result.grouped_by == "time")
            ends = (found.low, found.high) if found.known else (None, None)
            nominal = [level / 100 for level in scores.levels]
            yield "coverage", quality.coverage(nominal, found.value, low=ends[0], high=ends[1])
        names = result.feature_names
        yield "skill_map", quality.skill_map(_skills(loop), feature_names=names, horizons=loop.horizons)


def _skills(loop: OpenLoop) -> FloatArray:
    """Skill against persistence. Shape (F, reported horizons)."""
    at = [steps - 1 for steps in loop.horizons]
    model = CALIBRATED if CALIBRATED in loop.errors else MODEL
    ours, last = (loop.errors[name].mse[at].T for name in (model, "persistence"))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.where(last > 0, 1 - ours / last, np.where(ours > 0, -np.inf, 0.0))
    return found


def draw_motion(path: Path, model: NextStepModel, sequences: Sequences, loop: OpenLoop) -> None:
    """Show a robot's open loop as it would be seen, where the data are a robot's."""
    kind = next((n for n, known in ROBOTS.items() if known.feature_names == sequences.feature_names), None)
    rows = loop.warmup + loop.horizon
    if kind is None or sequences.dt_s is None or sequences.lengths[0] < rows or not can_locate_limbs():
        return
    values = torch.from_numpy(sequences.episode(0)[None, :rows].copy()).to(model.change.device)
    with torch.inference_mode():
        x = model.scaling(values)
        forecast, _ = model.rollout(x[:, : loop.warmup], x.new_zeros(1, rows, 0), horizon=loop.horizon)
        error = (forecast - x[:, loop.warmup :]).square().mean(dim=-1).sqrt()[0].cpu().numpy()
        states = [run[0].cpu().numpy() for run in (values[:, loop.warmup :], model.scaling.inverse(forecast))]
    limbs = [locate_limbs(kind, state, dt_s=sequences.dt_s) for state in states]
    robot.animate(path, *limbs, error=error, dt_s=sequences.dt_s)
