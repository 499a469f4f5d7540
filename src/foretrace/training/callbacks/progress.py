"""What a person sees while a run is at work."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from foretrace.training.forecaster import VALID_MSE


def bar(total: int, *, title: str, unit: str) -> "tqdm[Any]":
    """A progress bar on standard error; where that is no terminal, a line every half minute."""
    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else 30.0
    return tqdm(total=total, desc=title, unit=unit, dynamic_ncols=terminal, mininterval=interval)


def simulation(done: int, total: int) -> None:
    """Shows how many episodes have been simulated; where that is no terminal, only the last of them."""
    terminal = sys.stderr.isatty()
    if terminal or done == total:
        start, end = "\r" if terminal else "", "\n" if done == total else ""
        print(f"{start}simulating {done}/{total} episodes", end=end, file=sys.stderr, flush=True)


class TrainingBar(ProgressBar):
    """One bar for the whole training, in epochs' batches, with the last losses beside it."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Lightning calls this on all processes but the first; ours is the first."""

    def enable(self) -> None:
        """See `disable`."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Shows the bar, from where a resumed training stands."""
        batches = int(trainer.num_training_batches)
        self._bar = bar((trainer.max_epochs or 0) * batches, title="training", unit="batch")
        self._bar.update(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves on; the loss is read only when the bar is about to be drawn."""
        assert self._bar is not None
        if self._bar.update():
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            valid = trainer.callback_metrics.get(VALID_MSE)
            shown = f", valid {float(valid):.5f}" if valid is not None else ""
            self._bar.set_postfix_str(f"{epoch}, loss {float(outputs['loss']):.5f}{shown}", refresh=False)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Gives the terminal's line back before anything else is printed."""
        self.on_train_end(trainer, module)
