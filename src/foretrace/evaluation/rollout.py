"""How far ahead a forecast can see: it feeds on its own predictions.

Shapes: B starts, W steps of warm-up, H steps ahead, G groups, F features, K covariates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import LinearForecast
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import MODEL, ErrorSums, ForecastErrors, Groups, IntArray
from foretrace.model.next_step import NextStepModel

HORIZONS = (1, 2, 5, 10, 25, 50, 100)  # those that are reported
STARTS = 512  # at once: a layer of 512 over a warm-up of 50 then needs 50 MB

# Of the valid time: root mean square error over features, in training standard deviations. The mean forecast
# has 1 on average and two unrelated states √2, so at 0.5 a quarter of the variance is lost and the forecast
# still follows the trajectory. The usual threshold of valid prediction times (Vlachas et al., "Backpropagation
# algorithms and Reservoir Computing in Recurrent Neural Networks for the forecasting of complex spatiotemporal
# dynamics", Neural Networks 126, 2020); Pathak et al. (Chaos 28, 2018) take 0.4.
VALID_BELOW = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenLoop:
    """Open-loop errors of the model and of all baselines, from the same starts.

    Args:
        warmup: Steps read before each start, W; the state is zero before them.
        threshold: Below which a forecast is called valid, in training standard deviations.
        errors: By the name of the forecast, the model's first; in scaled units. Shapes (G, H, F).
        valid: How many starts of each group stay valid for 0 ... H steps, H meaning to the end at least.
            Shapes (G, H + 1).

    >>> two_starts = ForecastErrors(squared=np.ones((1, 3, 1)), absolute=np.ones((1, 3, 1)), count=np.array([2]))
    >>> loop = OpenLoop(warmup=5, threshold=0.5, errors={"model": two_starts}, valid={})
    >>> loop.horizons, loop.num_starts
    ((1, 2, 3), 2)
    """

    warmup: int
    threshold: float
    errors: dict[str, ForecastErrors]
    valid: dict[str, IntArray]

    @property
    def horizon(self) -> int:
        """Steps ahead, H."""
        return int(self.errors[MODEL].squared.shape[1])

    @property
    def horizons(self) -> tuple[int, ...]:
        """Steps ahead at which errors are reported, the last one included."""
        return (*(steps for steps in HORIZONS if steps < self.horizon), self.horizon)

    @property
    def num_starts(self) -> int:
        """Starts in all episodes."""
        return int(self.errors[MODEL].count.sum())


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollouts:
    """Forecasts from some starts beside what came.

    Args:
        episodes: Where each start is. Shape (B,).
        steps: Number of the last step read before each start, in its episode. Shape (B,).
        truth: Scaled values. Shape (B, H, F).
        forecasts: Scaled, on the CPU, by name, the model's first. Shapes (B, H, F).
    """

    episodes: Tensor
    steps: Tensor
    truth: Tensor
    forecasts: dict[str, Tensor]


def iterate_rollouts(
    model: NextStepModel,
    baselines: Sequence[LinearForecast],
    sequences: Sequences,
    *,
    warmup: int,
    horizon: int,
    stride: int,
) -> Iterator[Rollouts]:
    """Roll the model and the baselines out, from a start after ``warmup`` steps and then every ``stride`` steps.

    At each start the model reads the warm-up from a state of zero, so all starts are alike. Covariates of future
    steps are taken as recorded.

    Raises:
        ValueError: If there is no start, see `rollout_unavailable`, or a baseline needs more than the warm-up.
    """
    if reason := rollout_unavailable(sequences, warmup=warmup, horizon=horizon):
        raise ValueError(reason)
    # A window's targets reach one step beyond it: the last forecast needs no row of its own.
    windows = Windows(sequences, length=warmup + horizon - 1, stride=stride)
    scalings, device = Scalings.of(model), model.change.device
    model.eval()
    for chosen in torch.split(torch.arange(len(windows)), STARTS):
        batch, origins = windows.gather(chosen), windows.origins(chosen)
        x = scalings.values(batch.values[:, :warmup])
        with torch.inference_mode():
            ours = rollout(model, x.to(device), batch.covariates.to(device), horizon=horizon).cpu()
        covariates = scalings.covariates(batch.covariates)
        theirs = {b.name: rollout_baseline(b, x, covariates, horizon=horizon) for b in baselines}
        yield Rollouts(
            episodes=origins[:, 0],
            steps=origins[:, 1] + warmup - 1,
            truth=scalings.values(batch.targets[:, warmup - 1 :]),
            forecasts={MODEL: ours, **theirs},
        )


def evaluate_open_loop(
    model: NextStepModel,
    baselines: Sequence[LinearForecast],
    sequences: Sequences,
    groups: Groups,
    *,
    warmup: int,
    horizon: int,
    threshold: float = VALID_BELOW,
) -> OpenLoop:
    """Evaluate rollouts that tile each episode: a start every ``horizon`` steps; see `iterate_rollouts`."""
    names = (MODEL, *(baseline.name for baseline in baselines))
    sums = {name: ErrorSums(groups.number, (horizon, sequences.values.shape[1])) for name in names}
    valid = {name: np.zeros((groups.number, horizon + 1), np.int64) for name in names}
    for some in iterate_rollouts(model, baselines, sequences, warmup=warmup, horizon=horizon, stride=horizon):
        group = groups.find(some.episodes, some.steps)
        for name, forecast in some.forecasts.items():
            error = forecast.double() - some.truth
            sums[name].add(group, error)
            np.add.at(valid[name], (group.numpy(), valid_steps(error, threshold=threshold).numpy()), 1)
    errors = {name: total.errors() for name, total in sums.items()}
    return OpenLoop(warmup=warmup, threshold=threshold, errors=errors, valid=valid)


def rollout_unavailable(sequences: Sequences, *, warmup: int, horizon: int) -> str:
    """Say why there is no open-loop error; empty if there is one."""
    if sequences.next_values is not None:
        return "rows were left out of the episodes, so what a step is differs from row to row"
    longest = int(sequences.lengths.max(initial=0))
    if longest < warmup + horizon:
        return f"no episode has {warmup} + {horizon} rows for warm-up and horizon: the longest has {longest}"
    return ""


def rollout(model: NextStepModel, x: Tensor, covariates: Tensor, *, horizon: int) -> Tensor:
    """Read the warm-up and continue from the model's own forecasts, the state carried: any step costs the same.

    Args:
        model: On any device, in evaluation mode.
        x: Scaled values of the warm-up. Shape (B, W, F).
        covariates: Raw covariates of the warm-up and of the steps after it. Shape (B, W + H - 1, K).
        horizon: H.

    Returns:
        Scaled forecasts of the H steps after the warm-up. Shape (B, H, F).
    """
    warmup = x.shape[1]
    forecast, state = model.forward_scaled(x, covariates[:, :warmup])
    forecasts = [forecast[:, -1:]]
    for step in range(warmup, warmup + horizon - 1):
        forecast, state = model.forward_scaled(forecasts[-1], covariates[:, step : step + 1], state)
        forecasts.append(forecast)
    return torch.cat(forecasts, dim=1)


def rollout_baseline(baseline: LinearForecast, x: Tensor, covariates: Tensor, *, horizon: int) -> Tensor:
    """Return the same of a baseline, which needs the end of the warm-up only; covariates are scaled here.

    Raises:
        ValueError: If the baseline reads more than the warm-up.
    """
    context, warmup = baseline.context, x.shape[1]
    if context > warmup:
        raise ValueError(f"{baseline.name} reads {context} steps, the warm-up has {warmup}")
    values = torch.empty(len(x), context + horizon, x.shape[2], dtype=torch.float64)
    values[:, :context] = x[:, warmup - context :]
    for step in range(horizon):
        known = covariates[:, warmup - context + step : warmup + step].double()
        history = torch.cat([values[:, step : step + context], known], dim=-1)
        values[:, context + step] = baseline.steps(history)[:, 0]
    return values[:, context:]


def valid_steps(error: Tensor, *, threshold: float) -> Tensor:
    """Count the steps before the root mean square over features of scaled errors (B, H, F) exceeds a threshold.

    >>> valid_steps(torch.tensor([[[0.1], [0.6], [0.1]], [[0.1], [0.2], [0.3]]]), threshold=0.5).tolist()
    [1, 3]
    """
    within = error.square().mean(dim=-1).sqrt() <= threshold  # (B, H); a NaN is not within
    return within.long().cumprod(dim=1).sum(dim=1)
