"""From Lightning's hooks to a tracked run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from foretrace.tracking.run import TrackedRun


class RunLogger(Logger):
    """Gives Lightning's epoch figures to the run, with the epoch as their step.

    Lightning counts all points in batches and adds an ``epoch`` metric to each; here the epoch is the step.
    """

    def __init__(self, run: TrackedRun) -> None:
        super().__init__()
        self._run = run

    @property
    def name(self) -> str:
        """Lightning wants one for its folders; nothing is kept there."""
        return "foretrace"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def save_dir(self) -> str:
        """The folder of the run's artifacts."""
        return str(self._run.folder)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record an epoch's figures."""
        epoch = int(metrics["epoch"])
        self._run.log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step=epoch)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run already holds the configuration that the module was made from."""


class BatchLoss(Callback):
    """Records the loss of every batch under a name, with the batch's number (from 0) as its step, and the progress."""

    def __init__(self, run: TrackedRun, name: str) -> None:
        self._run, self._name = run, name

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the figure of that name that the training step returned."""
        self._run.log_metrics({self._name: outputs[self._name]}, step=trainer.global_step - 1)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Tag the run with its progress."""
        progress = f"{trainer.current_epoch + 1}/{trainer.max_epochs} epochs"
        self._run.set_tags({"progress": progress})
