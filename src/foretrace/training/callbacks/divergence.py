"""The end of a training whose figures are no numbers any more: at that batch, before anything is kept of it.

Shapes: B windows in a batch, T steps, F features, K covariates.
"""

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Batch
from foretrace.errors import DivergedError, sanitize
from foretrace.model.next_step import NextStepModel
from foretrace.training.forecaster import VALID_MSE

DIRECT = "cpu"  # where a value is there as soon as it is asked for
LOOK_S = 1.0  # between two looks where a look waits for the device
SHOWN = 3  # names of a kind in a message; the run's file has all of them
FILE = "divergence.txt"
CALMER = "Start anew with a lower optimizer.lr, or with trainer.gradient_clip=1"
MEND = "Mend the data"


class Step(NamedTuple):
    """One batch that was trained on: its place, what it was trained with, and what came of it."""

    epoch: int
    batch: int
    lr: float
    loss: Tensor
    norm: Tensor  # of the gradient, before it is clipped


class Divergence(Callback):
    """Ends a training at the first batch whose loss or gradient is not finite, and at such a validation error.

    On the CPU it looks before each step of the optimiser, which is then not made. A GPU would have to be waited
    for: there it looks once a second, and before each validation and checkpoint. Either way no checkpoint holds
    what is not finite. Processes that train together find the same at the same batch, as gradient and loss are
    those of all of them.

    Args:
        run: Gets all that was found as a file; a `TrackedRun` or what stands in its place.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._batch, self._loss = 0, torch.zeros(())
        self._waiting: list[Step] = []  # not looked at yet
        self._last: Step | None = None  # that was fine
        self._looked_at = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Notes which batch it is."""
        self._batch = batch_idx

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        """Takes the loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Takes the gradient's norm, and looks where that is for nothing."""
        groups = optimizer.param_groups
        norm = get_total_norm([p.grad for group in groups for p in group["params"] if p.grad is not None])
        rate = float(groups[0]["lr"])
        self._waiting.append(Step(trainer.current_epoch, self._batch, rate, self._loss, norm))
        if module.device.type == DIRECT:
            self._look(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Looks now and then where it has to wait."""
        if self._waiting and time.monotonic() - self._looked_at > LOOK_S:
            self._look(trainer, module)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Looks at what was left."""
        self._look(trainer, module)

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Likewise: nothing that is not finite is kept."""
        self._look(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Looks at the validation error, before a checkpoint is made of these weights."""
        score = float(trainer.callback_metrics[VALID_MSE])
        if math.isfinite(score):
            return
        loader: Any = trainer.val_dataloaders
        batches = (loader.part(0, number) for number in range(len(loader)))
        found = Findings(module, loader.windows.sequences)
        for places, batch in batches:
            found.look_into(places, batch)
        self._end(found, f"{VALID_MSE} is {score} after epoch {trainer.current_epoch + 1}")

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        """Sees whether all that waits is finite.

        Raises:
            DivergedError: If not.
        """
        waiting, self._waiting, self._looked_at = self._waiting, [], time.monotonic()
        for step in waiting:
            if not math.isfinite(step.loss) or not math.isfinite(step.norm):
                self._explain(trainer, module, step)
            self._last = step

    def _explain(self, trainer: Trainer, module: LightningModule, step: Step) -> None:
        loader: Any = trainer.train_dataloader
        found = Findings(module, loader.windows.sequences)
        found.look_into(*loader.part(step.epoch, step.batch))
        what = f"the loss is {float(step.loss):.3g} and its gradient's norm {float(step.norm):.3g}"
        place = f"in batch {step.batch + 1} of epoch {step.epoch + 1}, lr {step.lr:.3g}"
        last = self._last
        before = (
            f" (before: {float(last.loss):.3g} and {float(last.norm):.3g}, lr {last.lr:.3g})" if last else ""
        )
        self._end(found, f"{what} {place}{before}")

    def _end(self, found: "Findings", what: str) -> None:
        self._run.log_text(FILE, "\n".join([what, *found.lines(shown=None)]) + "\n")
        told = ". ".join([what, *found.lines(shown=SHOWN), MEND if found.data else CALMER])
        raise DivergedError(f"training diverged: {told}. Checkpoints are those of before")


class Findings:
    """Where in some windows figures are not finite: in the data, in the forecasts' errors, or in the weights.

    Args:
        module: With the weights as they are; on the CPU those from before the step.
        sequences: That the windows are from.
    """

    def __init__(self, module: LightningModule, sequences: Sequences) -> None:
        assert isinstance(module.model, NextStepModel)
        self._model, self._sequences = module.model, sequences
        self.data: dict[str, None] = {}  # in the order in which they are found
        self.windows: dict[str, None] = {}
        self.features: dict[str, None] = {}
        self.count = 0
        self._named: dict[str, Tensor] = {}
        for name, parameter in module.model.named_parameters():
            self._named[f"weights {name}"] = parameter
            if parameter.grad is not None:
                self._named[f"gradient of {name}"] = parameter.grad

    @torch.no_grad()
    def look_into(self, places: Tensor, batch: Batch) -> None:
        """Looks into windows, at (episode, first row) each, (B, 2)."""
        self.count += len(places)
        names = self._sequences.feature_names + self._sequences.covariate_names
        seen = torch.cat([batch.values, batch.covariates], dim=-1)  # (B, T, F + K)
        wrong = ~seen.isfinite()
        wrong[..., : batch.targets.shape[-1]] |= ~batch.targets.isfinite()
        for window, column in wrong.any(dim=1).nonzero().tolist():
            self.data[f"{names[column]!r} in {self._window(places[window], batch)}"] = None
        scaling, training = self._model.scaling, self._model.training
        forecast, _ = self._model.eval().forward_scaled(scaling(batch.values), batch.covariates)
        self._model.train(training)
        squared = (forecast.double() - scaling(batch.targets).double()) ** 2
        broken = ~squared.float().isfinite()  # (B, T, F)
        for window in broken.any(dim=2).any(dim=1).nonzero().flatten().tolist():
            self.windows[self._window(places[window], batch)] = None
        for feature in broken.any(dim=1).any(dim=0).nonzero().flatten().tolist():
            self.features[names[feature]] = None

    def lines(self, *, shown: int | None) -> Iterator[str]:
        """What was found, with so many names of each kind; None: with all."""
        if self.data:
            yield f"Not finite in the data: {_listed(self.data, shown)}"
        elif self.windows:
            some = f"{len(self.windows)} of {self.count} windows"
            yield f"The data are finite, the errors of {some} are not: {_listed(self.windows, shown)}"
            yield f"Features: {_listed(self.features, shown)}"
        else:
            yield f"Without dropout and noise, the errors of its {self.count} windows are finite"
        if broken := [name for name, tensor in self._named.items() if not tensor.isfinite().all()]:
            yield f"Not finite: {_listed(broken, shown)}"

    def _window(self, place: Tensor, batch: Batch) -> str:
        episode, first = place.tolist()
        name = sanitize(self._sequences.episode_names[episode], longest=60)
        return f"episode {name}, rows {first + 1} to {first + batch.values.shape[1]}"


def _listed(found: Iterable[str], shown: int | None) -> str:
    names = list(found)
    left = len(names) - len(names[:shown])
    return "; ".join(names[:shown]) + (f"; and {left} more" if left else "")
