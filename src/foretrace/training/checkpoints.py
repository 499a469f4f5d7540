"""Checkpoints from which a run is resumed as if it had never stopped.

Lightning restores weights, optimizer, schedule, callbacks and loops; added here are the random number generators'
states, the places at which a checkpoint is exact, and files that are whole or absent.
"""

import errno
import math
import shutil
import signal
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from foretrace.errors import Interrupted, full_disk
from foretrace.tracking.signals import Signals
from foretrace.training.checkpoint_io import BEST, FORMAT, LAST, PREVIOUS, upgrade_checkpoint
from foretrace.training.module import VALID_MSE
from foretrace.training.process_group import all_gather, any_rank
from foretrace.workspace import atomic_write

if TYPE_CHECKING:
    from foretrace.tracking.run import TrackedRun


class TimeIsUpError(Exception):
    """The end of ``trainer.max_minutes``, after a checkpoint."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written aside, and renamed once they are on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint.

        Raises:
            OSError: If it cannot be written, e.g. as the disk is full; what was there before is still there.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(target) as aside, aside.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch's writer raises a RuntimeError on a full disk
            cause = full_disk(error) or error
            why = getattr(cause, "strerror", None) or str(cause)
            reason = f"the checkpoint {target} could not be written ({why}); the one before is intact"
            raise OSError(getattr(cause, "errno", None) or errno.EIO, reason) from error

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint that `latest_valid_checkpoint` has read once."""
        return upgrade_checkpoint(super().load_checkpoint(*args, **kwargs))


class Checkpoints(Checkpoint):
    """The last checkpoint, the one before, and the best; each is exact, and preceded by its record.

    Written after each validation and, in a long epoch, every few minutes after a batch: Lightning resumes from
    both places exactly. What was recorded up to there is with the tracker before the checkpoint counts.

    Where several processes train together, all of them have this callback: they agree on when to save and when
    to end, each gives the states of its generators, and rank 0 writes.

    Args:
        run: Its folder ``checkpoints`` holds the files; None in a process that keeps no record.
        signals: To this process; they are obeyed after the next checkpoint.
        every_minutes: Time between two checkpoints within an epoch.
        max_minutes: Time after which training ends with a checkpoint; None: never.

    Attributes:
        folder: Where the files are.
        best_score: The least validation error so far; None before the first.
        best_epoch: Its epoch, from 0.
    """

    def __init__(
        self,
        run: "TrackedRun | None",
        signals: Signals,
        *,
        every_minutes: float,
        max_minutes: float | None = None,
    ) -> None:
        self._run, self._signals = run, signals
        self._every_s, self._max_s = 60 * every_minutes, 60 * (max_minutes or math.inf)
        self.folder = run.folder / "checkpoints" if run else Path()
        self._began = self._saved_at = time.monotonic()
        self._generators: list[dict[str, torch.Tensor]] = []  # of each process
        self._on_sigterm = signal.getsignal(signal.SIGTERM)
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, and the state of every generator that training draws from."""
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "generators": self._generators[0],
            "generators_of_others": self._generators[1:],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what a checkpoint holds; generators are set as the last thing before training."""
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self._generators = [state["generators"], *state.get("generators_of_others", [])]

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say which versions can resume from it."""
        checkpoint["foretrace"] = {"format": FORMAT, "version": metadata.version("foretrace")}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Restore the generators."""
        self._signals.deferred = True
        self._began = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            # Lightning puts a handler before ours that ends the loop at a place of its own, without a checkpoint.
            signal.signal(signal.SIGTERM, self._on_sigterm)
        self._restore_generators(trainer)
        if self.best_epoch == trainer.current_epoch and trainer.is_global_zero:
            self._keep_best()  # its process may have ended between the two
        trainer.should_stop = any_rank(trainer.should_stop)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch when it is time to; the last batch's turn comes after the validation."""
        is_last = batch_idx + 1 == trainer.num_training_batches
        now = time.monotonic()
        is_due = now - self._saved_at > self._every_s or now - self._began > self._max_s
        if any_rank(not is_last and (is_due or self._signals.pending is not None)):
            self._save(trainer)
            self._raise_if_time_is_up(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save after each epoch."""
        score = float(trainer.callback_metrics[VALID_MSE])
        is_best = self.best_score is None or score < self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, trainer.current_epoch
        self._save(trainer, is_best=is_best)
        if trainer.current_epoch + 1 != trainer.max_epochs:
            self._raise_if_time_is_up(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Share the wish to stop, and restore that of a run that was ended just as it had stopped early."""
        early = trainer.early_stopping_callback
        has_stopped = early is not None and early.wait_count >= early.patience
        trainer.should_stop = any_rank(trainer.should_stop or has_stopped)  # a search's is rank 0's alone

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Obey signals at once from here on."""
        self._signals.deferred = False
        self._signals.raise_pending()

    def _save(self, trainer: Trainer, *, is_best: bool = False) -> None:
        if self._run:
            self._run.flush(sync=True)
        device, states = trainer.strategy.root_device, {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states[str(device)] = torch.cuda.get_rng_state(device)
        self._generators = all_gather(states)
        last = self.folder / LAST
        if trainer.is_global_zero and last.exists():
            last.replace(self.folder / PREVIOUS)
        trainer.save_checkpoint(last, weights_only=False)  # with all that training needs, as plain data
        if is_best and trainer.is_global_zero:
            self._keep_best()
        self._saved_at = time.monotonic()
        if any_rank(self._signals.pending is not None):
            self._signals.raise_pending()
            raise Interrupted(signal.SIGTERM)  # another process was asked

    def _raise_if_time_is_up(self, trainer: Trainer) -> None:
        if any_rank(time.monotonic() - self._began > self._max_s):
            self._signals.deferred = False
            raise TimeIsUpError(f"after {self._max_s / 60:g} minutes, in epoch {trainer.current_epoch + 1}")

    def _restore_generators(self, trainer: Trainer) -> None:
        """Restore each process's states; one that is new draws other numbers than rank 0."""
        rank, device = trainer.global_rank, trainer.strategy.root_device
        if rank < len(self._generators):
            states = self._generators[rank]
            torch.set_rng_state(states["cpu"].cpu())
            if device.type == "cuda" and (state := states.get(str(device))) is not None:
                torch.cuda.set_rng_state(state.cpu(), device)
        elif rank:
            words = np.random.SeedSequence([torch.initial_seed(), rank, trainer.global_step])
            torch.manual_seed(int(words.generate_state(1, np.uint64)[0]))

    def _keep_best(self) -> None:
        """Give the last checkpoint a second name. It comes after the first: the best is never ahead of the last."""
        aside = self.folder / f".{BEST}.part"
        aside.unlink(missing_ok=True)
        try:
            aside.hardlink_to(self.folder / LAST)  # never written to again: both names keep what they have
        except OSError:  # not every file system has links
            shutil.copyfile(self.folder / LAST, aside)
        aside.replace(self.folder / BEST)
