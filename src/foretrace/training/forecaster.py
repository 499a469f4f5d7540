"""What is trained: the model with its loss, its validation metrics and its optimiser.

It reports figures with `self.log` and knows of no tracker.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from foretrace.data.statistics import Statistics
from foretrace.data.windows import Batch
from foretrace.model.next_step import NextStepModel
from foretrace.training.optimizers import build_optimizer, build_scheduler

TRAIN_LOSS = "MSE train loss"
VALID_MSE = "val/mse"


class Forecaster(LightningModule):
    """Trains a `NextStepModel` on the mean squared error of scaled one-step forecasts.

    The arguments are plain values: they lie in the checkpoint and rebuild the module from it alone.

    Args:
        features: ``names``, ``units``, ``covariates`` (names), ``dt_s`` and ``digest`` of the data, for whoever
            loads the model without them.
        model: ``hidden_sizes``, ``dropout``, ``output``, ``input_clip`` and ``frozen``.
        loss: ``units``, ``input_noise`` and ``open_loop`` (None, or ``weight``, ``horizon`` and ``growth_epochs``).
        optimizer: ``name`` and arguments of a class of `torch.optim`.
        scheduler: ``name``, ``interval`` and arguments of a class of `torch.optim.lr_scheduler`, or None.
    """

    def __init__(
        self,
        *,
        features: dict[str, Any],
        model: dict[str, Any],
        loss: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        network = {key: value for key, value in model.items() if key != "frozen"}
        self.model = NextStepModel(
            num_features=len(features["names"]), num_covariates=len(features["covariates"]), **network
        )
        self.model.freeze(model["frozen"])
        # Of the epoch so far: sum of the losses over windows, number of windows, learning rate.
        self.so_far: dict[str, Any] = {"loss": torch.zeros(()), "windows": 0, "lr": 0.0}
        self.valid_errors = MetricCollection(
            {VALID_MSE: MeanSquaredError(), "val/l1": MeanAbsoluteError()}, compute_groups=False
        )
        self.valid_mse_raw = MeanSquaredError()

    def set_statistics(self, statistics: Statistics) -> None:
        """Takes over the training part's mean, spread and typical change."""
        self.model.set_statistics(
            **{name: torch.from_numpy(array) for name, array in vars(statistics).items()}
        )

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """What is minimised, and the scaled mean squared error of the one-step forecasts over all elements."""
        scaling, settings = self.model.scaling, self.hparams["loss"]
        x, target = scaling(batch.values), scaling(batch.targets)
        if settings["input_noise"]:
            x = x + settings["input_noise"] * torch.randn_like(x)
        forecast, _ = self.model.forward_scaled(x, batch.covariates)
        own = F.mse_loss(forecast, target)
        loss = own if settings["units"] == "scaled" else self._loss(forecast, target)
        one_step, windows = _over_all(own.detach(), len(x) if batch.weight else 0)
        self.so_far["loss"] = self.so_far["loss"].to(x.device) + one_step * windows
        self.so_far["windows"] += windows
        if (open_loop := settings["open_loop"]) is not None:
            loss = loss + open_loop["weight"] * self._open_loop_loss(x, batch.covariates, target)
        # The gradient is the mean over processes of the weighted losses': the whole batch's, also of uneven parts.
        return {"loss": batch.weight * loss, TRAIN_LOSS: one_step}

    def on_train_epoch_start(self) -> None:
        """Notes the learning rate."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        rate = optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]  # one optimiser
        self.so_far = {"loss": torch.zeros(()), "windows": 0, "lr": rate}

    def on_train_epoch_end(self) -> None:
        """Reports the epoch's mean loss, and the learning rate that it was begun with."""
        self.log(f"{TRAIN_LOSS}/epoch", self.so_far["loss"] / self.so_far["windows"])
        self.log("lr", self.so_far["lr"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the epoch's figures are made from, for a training that goes on in its middle."""
        checkpoint["epoch_so_far"] = self.so_far

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes that over."""
        self.so_far = checkpoint["epoch_so_far"]

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Adds a batch to the validation errors."""
        if not batch.weight:
            return
        scaling = self.model.scaling
        forecast, target = self._forecast(batch)
        self.valid_errors.update(forecast, target)
        self.valid_mse_raw.update(scaling.inverse(forecast), batch.targets.contiguous())

    def on_validation_epoch_end(self) -> None:
        """Reports the errors over the whole validation part."""
        self.log_dict({**self.valid_errors.compute(), "val/raw/mse": self.valid_mse_raw.compute()})
        self.valid_errors.reset()
        self.valid_mse_raw.reset()

    def configure_optimizers(self) -> Any:
        """The optimiser over what is not frozen, and its schedule."""
        optimizer = build_optimizer(
            [p for p in self.parameters() if p.requires_grad], **self.hparams["optimizer"]
        )
        if self.hparams["scheduler"] is None:
            return optimizer
        interval, scheduler = build_scheduler(optimizer, **self.hparams["scheduler"])
        schedule = {"scheduler": scheduler, "interval": interval, "monitor": VALID_MSE}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _open_loop_loss(self, x: Tensor, covariates: Tensor, target: Tensor) -> Tensor:
        """Mean squared error over the last steps of the windows, of which the model sees none.

        The horizon grows with the epochs: far steps teach nothing while near ones are wrong (a curriculum).
        """
        settings = self.hparams["loss"]["open_loop"]
        grown = min(1.0, (self.current_epoch + 1) / settings["growth_epochs"])
        first = x.shape[1] - max(1, round(grown * settings["horizon"]))  # T - horizon
        forecast, state = self.model.forward_scaled(x[:, :first], covariates[:, :first])
        present, forecasts = forecast[:, -1:], []
        for step in range(first, x.shape[1]):
            present, state = self.model.forward_scaled(present, covariates[:, step : step + 1], state)
            forecasts.append(present)
        return self._loss(torch.cat(forecasts, dim=1), target[:, first:])

    def _loss(self, forecast: Tensor, target: Tensor) -> Tensor:
        """Mean squared error in the chosen units; in raw ones up to a factor, so that it stays near 1."""
        if self.hparams["loss"]["units"] == "scaled":
            return F.mse_loss(forecast, target)
        variance = self.model.scaling.scale**2
        return ((forecast - target) ** 2 * (variance / variance.mean())).mean()

    def _forecast(self, batch: Batch) -> tuple[Tensor, Tensor]:
        scaling = self.model.scaling
        forecast, _ = self.model.forward_scaled(scaling(batch.values), batch.covariates)
        return forecast, scaling(batch.targets)


def _over_all(mean: Tensor, windows: int) -> tuple[Tensor, Tensor | int]:
    """The mean over the windows of all processes, and their number."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mean, windows
    both = torch.stack([mean * windows, mean.new_tensor(windows)])
    distributed.all_reduce(both)
    return both[0] / both[1], both[1]
