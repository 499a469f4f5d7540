"""What a person sees while a run is at work."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from foretrace.training.module import VALID_MSE


def simulation(done: int, total: int) -> None:
    """Show how many episodes have been simulated; where that is no terminal, only the last of them."""
    terminal = sys.stderr.isatty()
    if terminal or done == total:
        start, end = "\r" if terminal else "", "\n" if done == total else ""
        print(f"{start}simulating {done}/{total} episodes", end=end, file=sys.stderr, flush=True)


class TrainingBar(TQDMProgressBar):
    """Lightning's bar on standard error; where that is no terminal, a line every half minute."""

    def __init__(self) -> None:
        super().__init__()
        self._every_s, self._drawn_at = 0.2 if sys.stderr.isatty() else 30.0, 0.0
        self._shown = dict[str, str]()

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar of an epoch."""
        no_terminal = not sys.stderr.isatty()
        return Tqdm(
            file=sys.stderr, dynamic_ncols=True, bar_format=self.BAR_FORMAT, unit="batch", disable=no_terminal
        )

    def init_validation_tqdm(self) -> Tqdm:
        """Return none: a validation is a tenth of an epoch."""
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Name the epoch, counted from 1."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(_epoch(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw now and then: the loss is read only then."""
        if time.monotonic() - self._drawn_at > self._every_s:
            self._shown["loss"] = f"{float(outputs['loss']):.5f}"
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
            self._drawn_at = time.monotonic()
            if self.train_progress_bar.disable:
                losses = ", ".join(
                    f"{name} {value}" for name, value in self.get_metrics(trainer, module).items()
                )
                place = f"{_epoch(trainer)}, batch {batch_idx + 1}/{self.total_train_batches}"
                print(f"{place}: {losses}", file=sys.stderr, flush=True)

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """Return the latest losses."""
        valid = trainer.callback_metrics.get(VALID_MSE)
        return self._shown | ({} if valid is None else {"valid": f"{float(valid):.5f}"})


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
