"""The end of a training run whose loss is no finite number: at that batch, before anything of it is kept."""

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Batch
from foretrace.errors import DivergedError, sanitize
from foretrace.training.module import VALID_MSE

LOOK_S = 1.0  # between two looks where a look waits for the device
SHOWN = 3  # names of a kind in a message; the run's file has all of them
FILE = "divergence.txt"
IN_DATA, IN_ERRORS = "Fix the data", "Start anew with a lower optimizer.lr, or with trainer.gradient_clip=1"


class Step(NamedTuple):
    """One batch that was trained on, and what came of it."""

    epoch: int
    batch: int
    lr: float
    loss: Tensor
    norm: Tensor  # of the gradient, before it is clipped


class Divergence(Callback):
    """Ends a training run at the first batch whose loss or gradient is not finite, or at such a validation error.

    On the CPU it looks before each step of the optimizer, which is then not made. A GPU would have to be waited
    for: there it looks once a second, and before each validation and checkpoint. Either way no checkpoint holds
    what is not finite. Processes that train together find the same at the same batch.

    Args:
        run: Gets all that was found as a file; a `TrackedRun` or a `NullRun`.
        look_at_once: Look before each step; None: on the CPU.
    """

    def __init__(self, run: Any, *, look_at_once: bool | None = None) -> None:
        self._run, self._at_once = run, look_at_once
        self._batch, self._loss = 0, torch.zeros(())
        self._waiting: list[Step] = []  # not looked at yet
        self._looked_at = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note which batch it is."""
        self._batch = batch_idx

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the gradient's norm, and look where that costs nothing."""
        groups = optimizer.param_groups
        norm = get_total_norm([p.grad for group in groups for p in group["params"] if p.grad is not None])
        step = Step(trainer.current_epoch, self._batch, float(groups[0]["lr"]), self._loss, norm)
        self._waiting.append(step)
        if module.device.type == "cpu" if self._at_once is None else self._at_once:
            self._look(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Look now and then where it has to wait."""
        if self._waiting and time.monotonic() - self._looked_at > LOOK_S:
            self._look(trainer, module)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at what was left."""
        self._look(trainer, module)

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: Any) -> None:
        """Likewise: nothing that is not finite is kept."""
        self._look(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at the validation error, before a checkpoint is made of these weights."""
        score = float(trainer.callback_metrics[VALID_MSE])
        loader: Any = trainer.val_dataloaders
        if not math.isfinite(score):
            parts = (loader.part(0, number) for number in range(len(loader)))
            self._end(
                module, f"{VALID_MSE} is {score} after epoch {trainer.current_epoch + 1}", parts, loader
            )

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        waiting, self._waiting, self._looked_at = self._waiting, [], time.monotonic()
        for step in waiting:
            if not (math.isfinite(step.loss) and math.isfinite(step.norm)):
                what = f"the loss is {float(step.loss):.3g} and its gradient's norm {float(step.norm):.3g}"
                where = f"in batch {step.batch + 1} of epoch {step.epoch + 1}, lr {step.lr:.3g}"
                loader: Any = trainer.train_dataloader
                self._end(module, f"{what} {where}", [loader.part(step.epoch, step.batch)], loader)

    def _end(self, module: Any, what: str, parts: Iterable[tuple[Tensor, Batch]], loader: Any) -> None:
        """Name what is not finite in the windows' data, else in the errors of their forecasts.

        Raises:
            DivergedError: Always.
        """
        data, errors = dict[str, None](), dict[str, None]()  # in the order in which they are found
        scaling, is_training = module.model.scaling, module.model.training
        module.model.eval()  # without dropout
        for origins, batch in parts:
            with torch.no_grad():
                forecast, _ = module.model.forward_scaled(scaling(batch.values), batch.covariates)
            squared = (forecast.float() - scaling(batch.targets)).square()  # (B, T, F)
            seen = torch.cat([batch.values + batch.targets, batch.covariates], dim=-1)
            data |= _not_finite(seen, origins, loader.windows.sequences)
            errors |= _not_finite(squared, origins, loader.windows.sequences)
        module.model.train(is_training)
        found, hint = list(data or errors), IN_DATA if data else IN_ERRORS
        kind = (
            "Not finite in the data" if data else "The data are finite, the errors of the forecasts are not"
        )
        self._run.log_text(FILE, "\n".join([what, f"{kind}:", *found]) + "\n")
        shown = "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        told = [what, f"{kind}: {shown}", hint] if found else [what, hint]
        raise DivergedError(f"training diverged: {'. '.join(told)}. Checkpoints are those of before")


def _not_finite(values: Tensor, origins: Tensor, sequences: Sequences) -> dict[str, None]:
    """Return features and windows in which values, (B, T, columns), are not finite."""
    names, found = sequences.feature_names + sequences.covariate_names, dict[str, None]()
    for window, column in (~values.isfinite()).any(dim=1).nonzero().tolist():
        episode, first = origins[window].tolist()
        name = sanitize(sequences.episode_names[episode], longest=60)
        found[f"{names[column]!r} in episode {name}, rows {first + 1} to {first + values.shape[1]}"] = None
    return found
