"""What is drawn and written about a trained model: pictures, and one page for a reader."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from foretrace.data.progress import track
from foretrace.data.sequences import Sequences
from foretrace.data.simulation.robots import ROBOTS, can_locate_limbs, locate_limbs
from foretrace.data.sources import WindowDataModule
from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.calibration import Calibration
from foretrace.evaluation.forecast_errors import CALIBRATED, MODEL
from foretrace.evaluation.one_step import forecast_episodes
from foretrace.evaluation.open_loop import OpenLoop
from foretrace.evaluation.result import EvaluationResult, skill
from foretrace.evaluation.rollout import Rollouts, iterate_rollouts
from foretrace.model.next_step import NextStepModel
from foretrace.reports import page
from foretrace.reports.figures import forecasts, learning, quality, robot
from foretrace.reports.page import Findings
from foretrace.tracking.run import TrackedRun
from foretrace.training.module import TRAIN_LOSS, VALID_MSE

PICTURED_STEPS = 200  # of the first test episode: as many columns as a picture shows apart
RESIDUAL_EPISODES, MOST_STEPS = 8, 2000  # of an episode: enough to see a distribution
REPORT = "report.html"


def write_report(found: Findings) -> None:
    """Draw all pictures of a run and write its page."""
    found.run.log_figures(track(draw(found), "drawing pictures"))
    if found.result is not None and found.result.open_loop is not None:
        path = found.run.folder / "figures" / "animation.gif"
        draw_motion(path, found.model, shown_part(found.data), found.result.open_loop)
    found.run.log_text(REPORT, page.compose(found))


def draw(found: Findings) -> Iterator[tuple[str, Figure]]:
    """Yield each picture with its name."""
    sequences, model, result = shown_part(found.data), found.model, found.result
    yield "distributions", _distributions(found.data, model)
    yield from _learning(found.run)
    yield from _forecasts(model, sequences)
    if result is not None:
        yield from _quality(result)
        if result.open_loop is not None and found.references.calibration is not None:
            yield "fan_chart", _fan_chart(model, sequences, found.references.calibration, result.open_loop)
    flow, steps = found.inside.flow, PICTURED_STEPS
    yield "gradients", learning.gradient_flow(flow.h, flow.c, layers=flow.layers)
    gates = {
        layer: {n: gate[:steps] for n, gate in named.items()} for layer, named in found.inside.gates.items()
    }
    dates, title = dates_of(sequences, 0, steps), f"First episode, {sequences.episode_names[0]}"
    yield "gates", learning.gate_pictures(gates, dt_s=sequences.dt_s, dates=dates, title=title)


def shown_part(data: WindowDataModule) -> Sequences:
    """Return the part whose first episode is shown."""
    return data.windows.get("test", data.windows["valid"]).sequences


def dates_of(sequences: Sequences, first: int, count: int) -> npt.NDArray[np.datetime64] | None:
    """Return dates (count,) of the rows from ``first`` of the first episode on, where they are known."""
    if sequences.times is None or not sequences.has_dates or sequences.next_values is not None:
        return None
    start, end = sequences.bounds[0]
    return sequences.times[start + first : min(end, start + first + count)].astype("datetime64[ns]")


def _scaling(model: NextStepModel) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return each feature's mean and scale; each (F,)."""
    return model.scaling.mean.cpu().numpy(), model.scaling.scale.cpu().numpy()


def _distributions(data: WindowDataModule, model: NextStepModel) -> Figure:
    mean, scale = _scaling(model)
    quantiles = {}
    for part, windows in data.windows.items():
        sequences = windows.sequences
        some = np.linspace(0, len(sequences) - 1, min(len(sequences), 64)).astype(int)
        episodes = [sequences.episode(e) for e in some]
        rows = np.concatenate([episode[:: -(-len(episode) // MOST_STEPS)] for episode in episodes])
        quantiles[part] = np.quantile((rows - mean) / scale, (0.01, 0.25, 0.5, 0.75, 0.99), axis=0)
    return quality.distributions(quantiles, feature_names=data.windows["train"].sequences.feature_names)


def _learning(run: TrackedRun) -> Iterator[tuple[str, Figure]]:
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
        yield "layer_norms", learning.layer_norms(epochs, norms=norms, updates=updates)


def _forecasts(model: NextStepModel, sequences: Sequences) -> Iterator[tuple[str, Figure]]:
    mean, scale = _scaling(model)
    count = min(len(sequences), RESIDUAL_EPISODES)
    pairs = forecast_episodes(model, sequences, count=count, max_steps=MOST_STEPS)
    first = [values[:PICTURED_STEPS] for values in pairs[0]]
    scaled = [(raw - mean) / scale for raw in first]
    names, dt_s, dates = sequences.feature_names, sequences.dt_s, dates_of(sequences, 1, len(first[0]))
    title = f"First episode, {sequences.episode_names[0]}, one step ahead"
    images = forecasts.prediction_and_truth(*scaled, feature_names=names, dt_s=dt_s, dates=dates, title=title)
    yield "prediction_and_truth", images
    units = sequences.units
    lines = forecasts.feature_lines(
        *first, feature_names=names, units=units, dt_s=dt_s, dates=dates, title=title
    )
    yield "features", lines
    yield "residuals", quality.residuals([(prediction - truth) / scale for prediction, truth in pairs])


def _rollout(model: NextStepModel, sequences: Sequences, loop: OpenLoop) -> tuple[Sequences, Rollouts]:
    """Forecast in open loop from the beginning of the first episode that has room for it, which comes with it."""
    rows = loop.warmup + loop.horizon
    chosen = sequences.select([int((sequences.lengths >= rows).argmax())])
    how = {"warmup": loop.warmup, "horizon": loop.horizon, "stride": rows}
    return chosen, next(iterate_rollouts(model, [], chosen, **how))


def _fan_chart(
    model: NextStepModel, sequences: Sequences, calibration: Calibration, loop: OpenLoop
) -> Figure:
    """Show a forecast as it is given, and what came."""
    chosen, found = _rollout(model, sequences, loop)
    mean, scale = _scaling(model)
    spread = None if found.spread is None else found.spread[:1].numpy()
    limits = calibration.limits(found.forecasts[MODEL][:1].numpy(), spread)
    point, lower, upper = (mean + scale * some for some in limits)
    recorded, truth = np.split(chosen.episode(0)[: loop.warmup + loop.horizon], [loop.warmup])
    return forecasts.fan_chart(
        recorded,
        point[0],
        bands=dict(zip(calibration.levels, zip(lower[:, 0], upper[:, 0], strict=True), strict=True)),
        truth=truth,
        feature_names=sequences.feature_names,
        units=sequences.units,
        dt_s=sequences.dt_s,
        dates=dates_of(chosen, 0, loop.warmup + loop.horizon),
        title=f"{chosen.episode_names[0]}: a forecast of {loop.horizon} steps with its intervals",
    )


def _quality(result: EvaluationResult) -> Iterator[tuple[str, Figure]]:
    zero_state, state = result.zero_state, result.carried_state
    carried = float(state.errors[MODEL].mean_mse) if state else None
    curves = {name: curve.mean(axis=-1) for name, curve in zero_state.by_position.items()}
    yield "error_by_position", quality.error_by_position(curves, carried=carried)
    if (loop := result.open_loop) is None:
        return
    errors = {name: errors.mean_mse for name, errors in loop.errors.items() if name != CALIBRATED}
    if CALIBRATED in loop.errors:
        errors |= {f"{MODEL}, not calibrated": errors[MODEL], MODEL: loop.given.mean_mse}
    found = result.mse_interval(loop.given)
    band = (found.low, found.high) if found.known else None
    yield "error_by_horizon", quality.error_by_horizon(errors, band=band, dt_s=result.dt_s)
    if scores := loop.intervals.get(CALIBRATED):
        found = scores.coverage_interval(in_time=result.in_time)
        band = (found.low, found.high) if found.known else None
        nominal = [level / 100 for level in scores.levels]
        yield "coverage", quality.coverage(nominal, found.value, band=band)
    at = [steps - 1 for steps in loop.horizons]
    skills = skill(loop.given.mse[at].T, loop.errors[PERSISTENCE].mse[at].T)  # (F, reported horizons)
    yield "skill_map", quality.skill_map(skills, feature_names=result.feature_names, horizons=loop.horizons)


def draw_motion(path: Path, model: NextStepModel, sequences: Sequences, loop: OpenLoop) -> None:
    """Show a robot's open loop as it would be seen, where the data are a robot's."""
    kind = next((n for n, known in ROBOTS.items() if known.feature_names == sequences.feature_names), None)
    if kind is None or sequences.dt_s is None or not can_locate_limbs():
        return
    mean, scale = _scaling(model)
    _, found = _rollout(model, sequences, loop)
    truth, forecast = found.truth[0].numpy(), found.forecasts[MODEL][0].numpy()
    error = np.sqrt(np.square(forecast - truth).mean(axis=-1))
    limbs = [locate_limbs(kind, mean + scale * scaled, dt_s=sequences.dt_s) for scaled in (truth, forecast)]
    robot.animate(path, *limbs, error=error, dt_s=sequences.dt_s)
