"""What watches a training run: how the model moves inside, whether its loss stays finite, and a person."""

import math
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from tqdm import tqdm

from foretrace.data.windows import Batch, Windows
from foretrace.errors import DivergedError, sanitize
from foretrace.evaluation.inside import GradientFlow, WeightWatch, gradient_flow
from foretrace.training.module import VALID_MSE

if TYPE_CHECKING:
    from foretrace.tracking.run import TrackedRun

NUM_WINDOWS = 8  # that gradients are taken over, spread evenly
LOOK_S = 1.0  # between two looks where a look waits for the device
SHOWN = 3  # names in a message; the run's file has all of them
FILE = "divergence.txt"


class Diagnostics(Callback):
    """Reports gradients and weights per layer after an epoch, and leaves the training as it is, bit by bit.

    It reads the weights after the validation of an epoch, on windows of its own, by equations of its own: no
    random number is drawn, no module changes its mode, no parameter gets a gradient. Norms of weights and of
    their updates are taken after every epoch, as an update is since the last one; gradients, which take a tenth of
    a batch's time on two idle cores, every ``every_n_epochs``.

    Args:
        windows: Where a few windows for the gradients come from; those of validation, so that training's own
            shuffling has no part in it.
        every_n_epochs: Take gradients after epochs 0, n, 2 n, ….

    Attributes:
        flow: The latest gradients; None before the first.
    """

    def __init__(self, windows: Windows, *, every_n_epochs: int = 5) -> None:
        self._windows, self._every_n_epochs = windows, every_n_epochs
        self._chosen = torch.linspace(0, len(windows) - 1, min(NUM_WINDOWS, len(windows))).round().long()
        self._watch: WeightWatch | None = None
        self._restored: dict[str, Any] | None = None
        self.flow: GradientFlow | None = None

    def lines(self) -> list[str]:
        """Return a line per layer about its gradient, and one for each layer that never moved."""
        flow = self.flow.diagnosis() if self.flow else []
        return flow + (self._watch.still() if self._watch else [])

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Note the weights that training begins with, which may come from a checkpoint."""
        self._watch = WeightWatch(module.model)
        if self._restored is not None:
            self._watch.load_state_dict(self._restored)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights at the end of the last epoch, from which the next change is measured."""
        return {"watch": self._watch.state_dict()} if self._watch else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self._restored = state.get("watch")

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Measure and report; Lightning gives the metrics to the tracker with the epoch as their step."""
        assert self._watch is not None
        metrics = self._watch.measure(module.model)
        if trainer.current_epoch % self._every_n_epochs == 0:
            self.flow = gradient_flow(module.model, self._windows.gather(self._chosen))
            metrics |= self.flow.metrics()
        module.log_dict(metrics, rank_zero_only=True)  # the others neither measure nor wait


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


class TrainingBar(Callback):
    """A bar on standard error; where that is no terminal, a line every half minute."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Make the bar."""
        self._every_s, self._drawn_at = 0.2 if sys.stderr.isatty() else 30.0, 0.0
        self._bar = tqdm(unit="batch", dynamic_ncols=True, file=sys.stderr, disable=not sys.stderr.isatty())

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Let it begin anew."""
        self._bar.reset(trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw now and then: the losses are read only then."""
        if time.monotonic() - self._drawn_at < self._every_s:
            return
        self._drawn_at, epoch = time.monotonic(), f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        losses = f"loss {float(outputs['loss']):.5f}"
        if VALID_MSE in trainer.callback_metrics:
            losses += f", valid {float(trainer.callback_metrics[VALID_MSE]):.5f}"
        self._bar.n = batch_idx + 1
        self._bar.set_description(epoch, refresh=False)
        self._bar.set_postfix_str(losses)
        if self._bar.disable:
            print(f"{epoch}, batch {batch_idx + 1}/{self._bar.total}: {losses}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave it as it is."""
        self._bar.close()
