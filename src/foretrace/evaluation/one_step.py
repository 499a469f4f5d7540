"""One-step errors from a state of zero and with the state carried, each named for what it is.

Zero state: the state is zero at the start of each window, so the first forecasts know one step; the published
protocols are of this kind. Carried state: from the beginning of the episode, as in use.

Shapes: B windows or episodes, T steps of a window, S steps of a chunk, G groups, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from foretrace.data.progress import track
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import PERSISTENCE, LinearForecast
from foretrace.evaluation.chunks import Scalings, read_chunks
from foretrace.evaluation.forecast_errors import MODEL, FloatArray, ForecastErrors, Groups
from foretrace.model.lstm import State
from foretrace.model.next_step import NextStepModel

BATCH = 256  # windows at once


@dataclass(frozen=True, eq=False, kw_only=True)
class ZeroState:
    """One-step errors on whole windows from a state of zero, of the model and of persistence.

    The baselines with more context have no forecast at a window's start.
    """

    errors: dict[str, ForecastErrors]  # (G, F) each, over all positions, by the name of the forecast
    by_position: dict[str, FloatArray]  # (T, F) each, mean squared errors


@dataclass(frozen=True, eq=False, kw_only=True)
class CarriedState:
    """One-step errors with the state carried from the beginning of each episode.

    Only forecasts made after ``warmup`` steps were read count, for the model and for all baselines alike: then
    each of them has the history that it needs, and all are compared on the very same steps.
    """

    warmup: int  # steps read before the first forecast that counts
    errors: dict[str, ForecastErrors]  # (G, F) each, by the name of the forecast, the model's first


def evaluate_zero_state(model: NextStepModel, windows: Windows, groups: Groups) -> ZeroState:
    """Evaluate the model and persistence on whole windows, from a state of zero."""
    num_features = windows.sequences.values.shape[1]
    names = (MODEL, PERSISTENCE)
    errors = {name: ForecastErrors.none(groups.number, (num_features,)) for name in names}
    squared = {name: torch.zeros(windows.length, num_features, dtype=torch.float64) for name in names}
    model.eval()
    for chosen in track(torch.split(torch.arange(len(windows)), BATCH), "testing one step ahead"):
        values, covariates, targets, _ = windows.gather(chosen)
        with torch.inference_mode():
            x, y = model.scaling(values), model.scaling(targets)
            forecast, _ = model.forward_scaled(x, covariates)
        group = groups.find(*windows.origins(chosen).cpu().unbind(dim=1)).repeat_interleave(windows.length)
        for name, tensor in zip(names, (forecast, x), strict=True):
            error = tensor.cpu().double() - y.cpu()
            squared[name] += error.square().sum(dim=0)
            errors[name].add(group, error.flatten(0, 1))
    by_position = {name: (total / len(windows)).numpy() for name, total in squared.items()}
    return ZeroState(by_position=by_position, errors=errors)


def evaluate_carried_state(
    model: NextStepModel,
    baselines: Sequence[LinearForecast],
    sequences: Sequences,
    groups: Groups,
    *,
    warmup: int,
) -> CarriedState:
    """Evaluate the model and the baselines on the same steps of whole episodes, of which one outlasts the warm-up."""
    lookback = max((baseline.context for baseline in baselines), default=1) - 1
    names, shape = (MODEL, *(b.name for b in baselines)), sequences.values.shape[1:]
    errors = {name: ForecastErrors.none(groups.number, shape) for name in names}
    scalings, device, state = Scalings.of(model), model.change.device, None
    model.eval()
    what = "testing one step ahead, the state carried"
    for chunk in read_chunks(sequences, scalings=scalings, history=warmup, lookback=lookback, what=what):
        x, covariates = chunk.x[:, lookback:].to(device), chunk.covariates[:, lookback:].to(device)
        before: State | None = state if chunk.steps[0] else None
        with torch.inference_mode():
            forecast, state = model.forward_scaled(x, covariates, before)
        group, mask = groups.find(chunk.episodes[:, None], chunk.steps), chunk.mask
        errors[MODEL].add(group[mask], (forecast.cpu().double() - chunk.targets)[mask])
        inputs = scalings.inputs(chunk.x, chunk.covariates)
        for baseline in baselines:
            error = baseline.steps(inputs[:, lookback + 1 - baseline.context :]) - chunk.targets
            errors[baseline.name].add(group[mask], error[mask])
    return CarriedState(warmup=warmup, errors=errors)


def carried_state_unavailable(sequences: Sequences, *, warmup: int) -> str:
    """Say why there are no errors with the state carried; empty if there are."""
    longest = int(sequences.num_targets.max(initial=0))
    if longest >= warmup:
        return ""
    return f"no episode has {warmup} steps to read and one more: the longest has {longest} with a next one"


def forecast_episodes(
    model: NextStepModel, sequences: Sequences, *, count: int, max_steps: int
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Forecast the beginnings of the first episodes one step ahead, side by side, the state carried all along.

    Returns forecasts and what came of each episode, in raw units; each (T, F) with T <= max_steps.
    """
    steps = np.minimum(sequences.num_targets[:count], max_steps)
    # What an episode lacks is its last row.
    inside = np.minimum(np.arange(steps.max()), np.maximum(steps[:, None] - 1, 0))
    rows, device = sequences.bounds[: len(steps), :1] + inside, model.change.device
    values, covariates = (
        torch.from_numpy(a[rows]).to(device) for a in (sequences.values, sequences.covariates)
    )
    model.eval()
    with torch.inference_mode():
        forecast = model(values, covariates)[0].cpu().numpy()
    pairs = zip(forecast, sequences.following(rows), steps, strict=True)
    return [(found[:many], came[:many]) for found, came, many in pairs]
