"""A training step's forecasts and their gradients as CUDA graphs: all of their kernels launched at once.

Shapes: B windows in a batch, T time, F features, K covariates, H steps of a rollout.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, distributed, nn

from foretrace.model.next_step import NextStepModel

Forecasts = dict[str, Tensor]  # "forecast", and where there are such: "spread", "rollout"
MOST_STEPS = (
    100_000  # windows times steps of a batch; the kernels of a larger one run longer than their launches take
)


class TrainingForecasts(nn.Module):
    """What the loss of a training step is made of.

    Args:
        model: The network that is trained.
        horizon: Last steps of each window that are also forecast in open loop, H; 0: none.
    """

    def __init__(self, model: NextStepModel, horizon: int) -> None:
        super().__init__()
        self.model, self.horizon = model, horizon

    def forward(self, x: Tensor, covariates: Tensor) -> Forecasts:
        """Forecast one step ahead at each step of scaled windows x (B, T, F), covariates (B, T, K) raw.

        Returns:
            ``forecast`` (B, T, F); ``spread`` (B, T, F) of a model that learns it; ``rollout`` (B, H, F) of the last
            steps, which it has not seen: the steps before them are read once for both.
        """
        first = x.shape[1] - self.horizon
        forecast, spread, state = self.model.forward_spread(x[:, :first], covariates[:, :first])
        found = {"forecast": forecast} | ({} if spread is None else {"spread": spread})
        if self.horizon:
            rest, after, _ = self.model.forward_spread(x[:, first:], covariates[:, first:], state)
            rollout, _ = self.model.continue_rollout(forecast[:, -1:], covariates[:, first:], state)
            found = {"forecast": torch.cat([forecast, rest], dim=1), "rollout": rollout[:, 1:]}
            if spread is not None and after is not None:
                found["spread"] = torch.cat([spread, after], dim=1)
        return found


class GraphedForecasts:
    """`TrainingForecasts` of a model, captured once for each shape of batch where launches take most of the time.

    An LSTM is hundreds of short kernels, and its step waits for their launches: on an H100 the default network's step
    in TF32 takes 10 ms eager and 5 ms captured, with the same bits. Elsewhere, for large batches and among several
    processes, each kernel is launched by itself.
    """

    def __init__(self) -> None:
        self._captured: dict[tuple[torch.Size, int], Callable[[Tensor, Tensor], Forecasts]] = {}

    def __call__(self, model: NextStepModel, x: Tensor, covariates: Tensor, *, horizon: int) -> Forecasts:
        """Return what `TrainingForecasts` computes; the next call may overwrite it."""
        alone = not (distributed.is_available() and distributed.is_initialized())
        if not (x.is_cuda and torch.version.cuda and alone and x.shape[0] * x.shape[1] <= MOST_STEPS):
            return TrainingForecasts(model, horizon).forward(x, covariates)
        if (x.shape, horizon) not in self._captured:
            for key in [key for key in self._captured if key[1] != horizon]:
                del self._captured[key]  # a rollout only grows
            self._captured[x.shape, horizon] = _capture(model, x, covariates, horizon)
        return self._captured[x.shape, horizon](x, covariates)


def _capture(
    model: NextStepModel, x: Tensor, covariates: Tensor, horizon: int
) -> Callable[[Tensor, Tensor], Forecasts]:
    precision = torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,  # weights are cast within the graph, at each step
    )
    with torch.random.fork_rng([x.device]), precision:  # trials before the capture draw for dropout
        forecasts = TrainingForecasts(model, horizon)
        graphed = torch.cuda.make_graphed_callables(forecasts, (x.clone(), covariates.clone()))
    return cast(Callable[[Tensor, Tensor], Forecasts], graphed)
