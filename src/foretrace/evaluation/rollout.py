"""Forecasts that feed on themselves: of the model and of the baselines, from the same starts.

Shapes: B starts, W steps of warm-up, H steps ahead, F features, K covariates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foretrace.data.progress import track
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import LinearForecast
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.model.next_step import NextStepModel

STARTS = 512  # at once: a layer of 512 over a warm-up of 50 then needs 50 MB


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollouts:
    """Forecasts from some starts beside what came."""

    episodes: Tensor  # (B,), where each start is
    steps: Tensor  # (B,), number of the last step read before each start, in its episode
    truth: Tensor  # (B, H, F), scaled
    forecasts: dict[str, Tensor]  # (B, H, F) each, scaled, on the CPU, by name, the model's first
    spread: Tensor | None  # (B, H, F), of the model's, where it learned one


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
    """
    # A window's targets reach one step beyond it: the last forecast needs no row of its own.
    windows = Windows(sequences, length=warmup + horizon - 1, stride=stride)
    scalings, device = Scalings.of(model), model.change.device
    model.eval()
    starts = torch.split(torch.arange(len(windows)), STARTS)
    for chosen in track(starts, f"forecasting {horizon} steps ahead"):
        batch, origins = windows.gather(chosen), windows.origins(chosen)
        x = scalings.values(batch.values[:, :warmup])
        with torch.inference_mode():
            ours, spread = model.rollout(x.to(device), batch.covariates.to(device), horizon=horizon)
        covariates = scalings.covariates(batch.covariates)
        theirs = {b.name: b.rollout(x, covariates, horizon=horizon) for b in baselines}
        yield Rollouts(
            episodes=origins[:, 0],
            steps=origins[:, 1] + warmup - 1,
            truth=scalings.values(batch.targets[:, warmup - 1 :]),
            forecasts={MODEL: ours.cpu(), **theirs},
            spread=None if spread is None else spread.cpu(),
        )


def rollout_unavailable(sequences: Sequences, *, warmup: int, horizon: int) -> str:
    """Say why there is no open-loop error; empty if there is one."""
    if sequences.next_values is not None:
        return "rows were left out of the episodes, so what a step is differs from row to row"
    longest = int(sequences.lengths.max(initial=0))
    if longest < warmup + horizon:
        return f"no episode has {warmup} + {horizon} rows for warm-up and horizon: the longest has {longest}"
    return ""
