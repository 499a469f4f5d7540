"""What is trained: the model with its loss, its validation metrics and its optimizer.

It reports metrics with `self.log` and knows of no tracker.

Shapes: B windows in a batch, T time, F features, H steps of a rollout.
"""

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from foretrace.data.sequences import Statistics
from foretrace.data.sources import WindowDataModule
from foretrace.data.windows import Batch
from foretrace.model.next_step import NextStepModel
from foretrace.training.cuda_graphs import Graphed
from foretrace.training.optimizers import build_optimizer, build_scheduler, optimizer_settings, reschedule

if TYPE_CHECKING:  # so that the module needs PyTorch and Lightning alone, as on a borrowed GPU
    from foretrace.config import TrainConfig

TRAIN_LOSS = "MSE train loss"
VALID_MSE = "val/mse"


class TrainingForecasts(nn.Module):
    """What the loss of a training step is made of: one-step forecasts, and a rollout of the last steps, not seen.

    Args:
        model: The network that is trained.
        horizon: Steps of the rollout, H; 0: none.
    """

    def __init__(self, model: NextStepModel, horizon: int) -> None:
        super().__init__()
        self.model, self.horizon = model, horizon

    def forward(self, x: Tensor, covariates: Tensor) -> dict[str, Tensor]:
        """Forecast scaled windows x (B, T, F) with raw covariates; steps before the rollout are read once for both.

        Returns:
            ``forecast`` (B, T, F), ``spread`` (B, T, F) of a model that learns it, and ``rollout`` (B, H, F) if H > 0.
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


class Forecaster(LightningModule):
    """A `NextStepModel` in training on scaled one-step forecasts.

    The arguments are plain values: they lie in the checkpoint and rebuild the module from it alone.

    Args:
        features: ``names``, ``units``, ``covariates`` (names), ``dt_s`` and ``digest`` of the data, for whoever
            loads the model without them.
        model: ``hidden_sizes``, ``dropout``, ``output``, ``input_clip`` and ``frozen``.
        loss: ``kind``, ``huber_delta``, ``units``, ``input_noise`` and ``open_loop`` (None, or ``weight``, ``horizon``
            and ``growth_epochs``).
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
            num_features=len(features["names"]),
            num_covariates=len(features["covariates"]),
            spread=loss["kind"] == "gaussian",
            **network,
        )
        self.model.freeze(model["frozen"])
        self._forecasts: dict[int, Graphed] = {}  # by the horizon of their rollouts
        self._is_plain_mse = loss["kind"] == "mse" and loss["units"] == "scaled"
        # Of the epoch so far: sum of the errors over windows, number of windows, learning rate. Not a MeanMetric: with
        # nan_strategy="disable" torchmetrics 1.9 drops the weights, and else it waits for the device at each step.
        self.so_far: dict[str, Any] = {"loss": torch.zeros(()), "windows": 0, "lr": 0.0}
        self.valid_errors = MetricCollection(
            {VALID_MSE: MeanSquaredError(), "val/l1": MeanAbsoluteError()}, compute_groups=False
        )
        self.valid_mse_raw = MeanSquaredError()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the hook that it is in 46 times a step, which is no module or parameter."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def set_statistics(self, statistics: Statistics) -> None:
        """Scale by the training part's mean, spread and typical change."""
        self.model.set_statistics(
            **{name: torch.from_numpy(array) for name, array in vars(statistics).items()}
        )

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Return the loss, and the scaled mean squared error of the one-step forecasts in all processes."""
        scaling, settings = self.model.scaling, self.hparams["loss"]
        x, target = scaling(batch.values), scaling(batch.targets)
        if settings["input_noise"]:
            x = x + settings["input_noise"] * torch.randn_like(x)
        if (horizon := self._horizon()) not in self._forecasts:  # it only grows
            self._forecasts = {horizon: Graphed(TrainingForecasts(self.model, horizon))}
        found = self._forecasts[horizon](x, batch.covariates)
        mse = F.mse_loss(found["forecast"], target)
        loss = mse if self._is_plain_mse else self._loss(found["forecast"], target, found.get("spread"))
        if "rollout" in found:
            ahead = target[:, -found["rollout"].shape[1] :]
            loss = loss + settings["open_loop"]["weight"] * self._loss(found["rollout"], ahead)
        one_step, windows = _over_processes(mse.detach(), len(x) if batch.weight else 0)
        self.so_far["loss"] = self.so_far["loss"].to(x.device) + one_step * windows
        self.so_far["windows"] += windows
        # The gradient is the mean over processes of the weighted losses': the whole batch's, also of uneven parts.
        return {"loss": batch.weight * loss, TRAIN_LOSS: one_step}

    def on_train_epoch_start(self) -> None:
        """Note the learning rate."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        rate = optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]  # one optimizer
        self.so_far = {"loss": torch.zeros(()), "windows": 0, "lr": rate}

    def on_train_epoch_end(self) -> None:
        """Report the epoch's mean squared error, and the learning rate with which it began."""
        self.log(f"{TRAIN_LOSS}/epoch", self.so_far["loss"] / self.so_far["windows"])
        self.log("lr", self.so_far["lr"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the epoch's metrics are made from, for a run that is resumed in its middle."""
        checkpoint["epoch_so_far"] = self.so_far

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it; a schedule of another length continues as if it had been this one all along."""
        self.so_far = checkpoint["epoch_so_far"]
        if self.hparams["scheduler"] != checkpoint["hyper_parameters"]["scheduler"]:
            reschedule(checkpoint, {key: self.hparams[key] for key in ("optimizer", "scheduler")})

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add a batch to the validation errors."""
        if not batch.weight:
            return
        scaling = self.model.scaling
        forecast, _ = self.model.forward_scaled(scaling(batch.values), batch.covariates)
        self.valid_errors.update(forecast, scaling(batch.targets))
        self.valid_mse_raw.update(scaling.inverse(forecast), batch.targets.contiguous())

    def on_validation_epoch_end(self) -> None:
        """Report the errors over the whole validation part."""
        self.log_dict({**self.valid_errors.compute(), "val/raw/mse": self.valid_mse_raw.compute()})
        self.valid_errors.reset()
        self.valid_mse_raw.reset()

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what is not frozen, and its schedule."""
        optimizer = build_optimizer(
            [p for p in self.parameters() if p.requires_grad], **self.hparams["optimizer"]
        )
        if (settings := self.hparams["scheduler"]) is None:
            return optimizer
        scheduler = build_scheduler(optimizer, **settings)
        schedule = {"scheduler": scheduler, "interval": settings["interval"], "monitor": VALID_MSE}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _horizon(self) -> int:
        """Return the steps that this epoch's windows are also forecast in open loop; 0 where the loss has no such part.

        They grow with the epochs: far steps teach nothing while near ones are wrong (a curriculum).
        """
        if (settings := self.hparams["loss"]["open_loop"]) is None:
            return 0
        grown: float = min(1.0, (self.current_epoch + 1) / settings["growth_epochs"]) * settings["horizon"]
        return max(1, round(grown))

    def _loss(self, forecast: Tensor, target: Tensor, spread: Tensor | None = None) -> Tensor:
        """Return the chosen loss in the chosen units; in raw ones up to a factor, so that it stays near 1.

        A Gaussian loss without a spread, as of a rollout, is the squared error.
        """
        settings = self.hparams["loss"]
        if self._is_plain_mse:
            return F.mse_loss(forecast, target)
        if settings["kind"] == "huber":
            errors = F.huber_loss(forecast, target, reduction="none", delta=settings["huber_delta"])
        else:
            errors = F.mse_loss(forecast, target, reduction="none")
        if spread is not None:
            # Of a normal distribution around a forecast that learns from squared errors alone (Stirn et al., "Faithful
            # Heteroscedastic Regression with Neural Networks", AISTATS 2023), the negative log likelihood times twice
            # the variance (β-NLL with β = 1: Seitzer et al., ICLR 2022), which keeps gradients of one size.
            variance = spread.square()
            errors = errors + variance.detach() * (errors.detach() / variance + variance.log())
        if settings["units"] == "raw":
            variance = self.model.scaling.scale**2
            errors = errors * (variance / variance.mean())
        return errors.mean()


def batches_per_epoch(config: "TrainConfig", data: WindowDataModule) -> int:
    """Return the number of training batches in an epoch."""
    batches = len(data.train_dataloader())
    return min(batches, config.trainer.limit_batches or batches)


def build_module(config: "TrainConfig", data: WindowDataModule) -> Forecaster:
    """Return the module at its beginning, with the scaling of its training data."""
    train = data.windows["train"].sequences
    features = {
        "names": list(train.feature_names),
        "units": list(train.units),
        "covariates": list(train.covariate_names),
        "dt_s": train.dt_s,
        "digest": train.digest,
        "reading": train.reading,
    }
    batches = config.trainer.max_epochs * batches_per_epoch(config, data)
    forecaster = Forecaster(
        features=features,
        model=config.model.network(),
        loss=config.loss.model_dump(),
        **optimizer_settings(config, batches=batches),
    )
    forecaster.set_statistics(train.statistics)
    return forecaster


def _over_processes(mean: Tensor, windows: int) -> tuple[Tensor, Tensor | int]:
    """Return the mean over the windows of all processes, and their number."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mean, windows
    both = torch.stack([mean * windows, mean.new_tensor(windows)])
    distributed.all_reduce(both)
    return both[0] / both[1], both[1]
