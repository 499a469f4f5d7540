"""The end of a training run whose loss is no finite number: at that batch, before anything of it is kept."""

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from foretrace.data.windows import Batch
from foretrace.errors import DivergedError, sanitize
from foretrace.training.module import VALID_MSE

if TYPE_CHECKING:
    from foretrace.tracking.run import TrackedRun

LOOK_S = 1.0  # between two looks where a look waits for the device
SHOWN = 3  # names in a message; the run's file has all of them
FILE = "divergence.txt"


class Divergence(Callback):
    """Ends a training run at the first batch whose loss or gradient is not finite, or at such a validation error.

    On the CPU it looks before each step of the optimizer, which is then not made. A GPU would have to be waited
    for: there it looks once a second, after each validation, and before each checkpoint. Either way no checkpoint holds
    what is not finite. Processes that train together find the same at the same batch.

    Args:
        run: Gets all that was found as a file; None in a process that keeps no record.
        look_at_once: Look before each step; None: on the CPU.
    """

    def __init__(self, run: "TrackedRun | None", *, look_at_once: bool | None = None) -> None:
        self._run, self._at_once = run, look_at_once
        self._loss = torch.zeros(())
        # Not looked at yet: epoch, batch, learning rate, loss, and the gradient's norm before it is clipped.
        self._waiting: list[tuple[int, int, float, Tensor, Tensor]] = []
        self._looked_at = time.monotonic()

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the gradient's norm, and look where that costs nothing."""
        groups = optimizer.param_groups
        norm = get_total_norm([p.grad for group in groups for p in group["params"] if p.grad is not None])
        batch = trainer.fit_loop.batch_idx
        self._waiting.append((trainer.current_epoch, batch, float(groups[0]["lr"]), self._loss, norm))
        if module.device.type == "cpu" if self._at_once is None else self._at_once:
            self._look(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Look now and then where it has to wait."""
        if self._waiting and time.monotonic() - self._looked_at > LOOK_S:
            self._look(trainer, module)

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: Any) -> None:
        """Look at what was left: nothing that is not finite is kept."""
        self._look(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at what was left, then at the validation error, before a checkpoint is made of these weights."""
        self._look(trainer, module)
        score = float(trainer.callback_metrics[VALID_MSE])
        if not math.isfinite(score):
            loader: Any = trainer.val_dataloaders
            parts = (loader.part(0, number) for number in range(len(loader)))
            what = f"{VALID_MSE} is {score} after epoch {trainer.current_epoch + 1}"
            self._end(module, what, parts, loader)

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        waiting, self._waiting, self._looked_at = self._waiting, [], time.monotonic()
        for epoch, batch, lr, loss, norm in waiting:
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"the loss is {float(loss):.3g} and its gradient's norm {float(norm):.3g}"
                what += f" in batch {batch + 1} of epoch {epoch + 1}, lr {lr:.3g}"
                loader: Any = trainer.train_dataloader
                self._end(module, what, [loader.part(epoch, batch)], loader)

    def _end(self, module: Any, what: str, parts: Iterable[tuple[Tensor, Batch]], loader: Any) -> None:
        """Name what is not finite in the windows' data, else in the errors of their forecasts.

        Raises:
            DivergedError: Always.
        """
        sequences, scaling = loader.windows.sequences, module.model.scaling
        names = sequences.feature_names + sequences.covariate_names
        data, errors = dict[str, None](), dict[str, None]()  # in the order in which they are found
        module.model.eval()  # without dropout
        for origins, batch in parts:
            with torch.no_grad():
                forecast, _ = module.model.forward_scaled(scaling(batch.values), batch.covariates)
            seen = torch.cat([batch.values + batch.targets, batch.covariates], dim=-1)
            squared = (forecast.float() - scaling(batch.targets)).square()  # (B, T, F)
            for found, values in ((data, seen), (errors, squared)):
                for window, column in (~values.isfinite()).any(dim=1).nonzero().tolist():
                    episode, first = origins[window].tolist()
                    name = sanitize(sequences.episode_names[episode], longest=60)
                    rows = f"rows {first + 1} to {first + values.shape[1]}"
                    found[f"{names[column]!r} in episode {name}, {rows}"] = None
        kind, hint = "Not finite in the data", "Fix the data"
        if not data:
            kind = "The data are finite, the errors of the forecasts are not"
            hint = "Start anew with a lower optimizer.lr, or with trainer.gradient_clip=1"
        where = list(data or errors)
        if self._run:
            self._run.log_text(FILE, "\n".join([what, f"{kind}:", *where]) + "\n")
        shown = "; ".join(where[:SHOWN]) + (f"; and {len(where) - SHOWN} more" if len(where) > SHOWN else "")
        told = f"{what}. {kind}: {shown}. {hint}" if where else f"{what}. {hint}"
        raise DivergedError(f"training diverged: {told}. Checkpoints are those of before")
