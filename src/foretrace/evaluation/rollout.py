"""How far ahead a forecast can see: it feeds on its own predictions.

Shapes: B starts, W steps of warm-up, H steps ahead, E episodes, F features, K covariates, D = F + K.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Batch, Windows
from foretrace.evaluation.baselines import LinearForecast
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.episode_errors import MODEL, EpisodeErrors, ErrorSums, IntArray
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
        errors: By the name of the forecast, the model's first; in scaled units. Shapes (E, H, F).
        valid: How many starts of each episode stay valid for 0 … H steps, H meaning to the end at least.
            Shapes (E, H + 1).

    >>> two_starts = EpisodeErrors(squared=np.ones((1, 3, 1)), absolute=np.ones((1, 3, 1)), count=np.array([2]))
    >>> loop = OpenLoop(warmup=5, threshold=0.5, errors={"model": two_starts}, valid={})
    >>> loop.horizons, loop.num_starts, loop.skipped
    ((1, 2, 3), 2, 0)
    """

    warmup: int
    threshold: float
    errors: dict[str, EpisodeErrors]
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

    @property
    def skipped(self) -> int:
        """Episodes too short for one start."""
        return int((self.errors[MODEL].count == 0).sum())


def evaluate_open_loop(
    model: NextStepModel,
    baselines: Sequence[LinearForecast],
    sequences: Sequences,
    *,
    warmup: int,
    horizon: int,
    threshold: float = VALID_BELOW,
) -> OpenLoop:
    """Rolls the model and the baselines out from starts that tile each episode.

    The first start follows ``warmup`` steps, the others every ``horizon`` steps, as many as fit. At each, the
    model reads the warm-up from a state of zero, so all starts are alike. Known inputs of future steps are
    taken as recorded.

    Raises:
        ValueError: If it is not defined, see `rollout_unavailable`, or a baseline needs more than the warm-up.
    """
    if obstacle := rollout_unavailable(sequences, warmup=warmup, horizon=horizon):
        raise ValueError(obstacle)
    windows = _windows(sequences, warmup=warmup, horizon=horizon)
    scalings = Scalings.of(model)
    names = (MODEL, *(baseline.name for baseline in baselines))
    shape = (horizon, sequences.values.shape[1])
    sums = {name: ErrorSums(len(sequences), shape) for name in names}
    valid = {name: np.zeros((len(sequences), horizon + 1), np.int64) for name in names}
    model.eval()
    for chosen in torch.split(torch.arange(len(windows)), STARTS):
        batch, episodes = windows.gather(chosen), windows.origins(chosen)[:, 0]
        truth = scalings.values(batch.targets[:, warmup - 1 :])  # (B, H, F)
        for name, forecast in _roll_out_all(model, baselines, batch, scalings, warmup=warmup):
            error = forecast.double() - truth
            sums[name].add(episodes, error)
            np.add.at(valid[name], (episodes.numpy(), valid_steps(error, threshold=threshold).numpy()), 1)
    errors = {name: total.errors() for name, total in sums.items()}
    return OpenLoop(warmup=warmup, threshold=threshold, errors=errors, valid=valid)


def rollout_unavailable(sequences: Sequences, *, warmup: int, horizon: int) -> str:
    """Why there is no open-loop error; empty if there is one."""
    if sequences.next_values is not None:
        return "rows were left out of the episodes, so what a step is differs from row to row"
    longest = int(sequences.lengths.max(initial=0))
    if longest < warmup + horizon:
        return f"no episode has {warmup} + {horizon} rows for warm-up and horizon: the longest has {longest}"
    return ""


def rollout(model: NextStepModel, x: Tensor, covariates: Tensor, *, horizon: int) -> Tensor:
    """Reads the warm-up and goes on from its own forecasts, the state carried: a step costs the same anywhere.

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
    """The same of a baseline, of whose history it needs the end only; covariates are scaled here.

    Raises:
        ValueError: If the baseline reads more than the warm-up.
    """
    if baseline.context > x.shape[1]:
        raise ValueError(f"{baseline.name} reads {baseline.context} steps, the warm-up has {x.shape[1]}")
    context, warmup, forecasts = baseline.context, x.shape[1], []
    history = x[:, warmup - context :].double()
    for end in range(warmup, warmup + horizon):
        forecast = baseline.step(history, covariates[:, end - context : end])[:, None]
        history = torch.cat([history[:, 1:], forecast], dim=1)
        forecasts.append(forecast)
    return torch.cat(forecasts, dim=1)


def valid_steps(error: Tensor, *, threshold: float) -> Tensor:
    """Steps before the root mean square over features of scaled errors (B, H, F) first exceeds a threshold.

    >>> valid_steps(torch.tensor([[[0.1], [0.6], [0.1]], [[0.1], [0.2], [0.3]]]), threshold=0.5).tolist()
    [1, 3]
    """
    within = error.square().mean(dim=-1).sqrt() <= threshold  # (B, H); a NaN is not within
    return within.long().cumprod(dim=1).sum(dim=1)


def _windows(sequences: Sequences, *, warmup: int, horizon: int) -> Windows:
    # A window's targets reach one step beyond it: the last forecast needs no row of its own.
    return Windows(sequences, length=warmup + horizon - 1, stride=horizon)


def _roll_out_all(
    model: NextStepModel,
    baselines: Sequence[LinearForecast],
    batch: Batch,
    scalings: Scalings,
    *,
    warmup: int,
) -> list[tuple[str, Tensor]]:
    """Scaled forecasts (B, H, F) on the CPU, by name."""
    x, horizon, device = (
        scalings.values(batch.values[:, :warmup]),
        batch.covariates.shape[1] - warmup + 1,
        model.change.device,
    )
    with torch.inference_mode():
        ours = rollout(model, x.to(device), batch.covariates.to(device), horizon=horizon).cpu()
    covariates = scalings.covariates(batch.covariates)
    theirs = ((b.name, rollout_baseline(b, x, covariates, horizon=horizon)) for b in baselines)
    return [(MODEL, ours), *theirs]
