"""The trial as a callback of whichever of its two names Lightning has in an environment."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from trial import Array, Plan, Trial

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:  # NeuralForecast and Darts bring the package of the older name
    from pytorch_lightning import Callback


class Watch(Callback):
    """Tells the trial of each step, and ends the training when it is enough.

    Args:
        plan: What was given.
        forecast: From the module that trains and test windows (W, T, F) to forecasts; see `Trial`.
    """

    def __init__(self, plan: Plan, forecast: Callable[[Any, Tensor], Tensor]) -> None:
        self.trial = Trial(plan, self._forecast)
        self.forecast, self.module = forecast, None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Watch":
        """NeuralForecast trains a copy of its model, callbacks included; there is one clock all the same."""
        return self

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Return the module that trains, whoever made it."""
        self.module = pl_module

    def on_train_batch_start(self, *_: Any) -> None:
        """End what came between two epochs."""
        self.trial.continue_rollout()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """After the optimizer's step."""
        trainer.should_stop = self.trial.step() or trainer.should_stop

    def on_validation_start(self, *_: Any) -> None:
        """Begins what comes between two epochs: validation, checkpoints, pictures of the inside."""
        self.trial.pause()

    def _forecast(self, values: Array) -> Array:
        self.module.eval()
        with torch.inference_mode():
            told: Array = self.forecast(self.module, torch.from_numpy(values)).numpy()
        self.module.train()
        return told

    def report(self, *packages: str) -> None:
        """Return what run.py reads."""
        self.trial.report(parameters=sum(p.numel() for p in self.module.parameters()), packages=packages)
