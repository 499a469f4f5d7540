"""Stops a search's trial whose validation curve is hopeless."""

from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from foretrace.config import Sweep
from foretrace.training.module import VALID_MSE
from foretrace.workspace import Workspace

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from foretrace.sweeps.study import Study


class TrialPruner(Callback):
    """Reports each epoch's validation error to the study and stops a trial that the median rule gives up.

    A trial is given up when its lowest error so far is above the median error of the finished trials at the
    same epoch (Golovin et al. 2017, Google Vizier, section 3.5.1, as in Optuna's `MedianPruner`). An epoch that
    is trained again, as its process had ended before the checkpoint, was reported already and is left as it is.

    Args:
        workspace: Where the study is kept.
        sweep: Id of the search's parent run.
        number: The trial's number.

    Attributes:
        pruned_at: The epoch, from 0, after which it was given up; None if it was not.
    """

    def __init__(self, workspace: Workspace, *, sweep: str, number: int) -> None:
        self._workspace, self._sweep, self._number = workspace, sweep, number
        self._study: Study | None = None
        self._pruner: BasePruner | None = None
        self.pruned_at: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """That it was given up, for a process that ends before it could say so."""
        return {} if self.pruned_at is None else {"pruned_at": self.pruned_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that over."""
        self.pruned_at = state["pruned_at"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Opens the study; trains no further what was given up."""
        from optuna.pruners import MedianPruner

        from foretrace.sweeps.study import Study

        self._study = Study(self._workspace, self._sweep)
        if (settings := self._study.pruning) is not None:
            self._pruner = MedianPruner(
                n_startup_trials=settings.startup_trials,
                n_warmup_steps=ceil(settings.warmup * (trainer.max_epochs or 0)),
                n_min_trials=settings.startup_trials,  # of those that got so far: some end early by themselves
            )
        trainer.should_stop = trainer.should_stop or self.pruned_at is not None

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Reports and asks; after the last epoch there is nothing to save any more."""
        assert self._study is not None, "opened when training started"
        epoch, score = trainer.current_epoch, float(trainer.callback_metrics[VALID_MSE])
        trial = self._study.report(self._number, score, epoch)
        is_last = epoch + 1 == trainer.max_epochs
        if self._pruner is None or is_last or not any(map(isfinite, trial.intermediate_values.values())):
            return
        if self._pruner.prune(self._study.optuna, trial):
            self.pruned_at = epoch
            trainer.should_stop = True


def pruner_for(sweep: Sweep, workspace: Workspace) -> TrialPruner | None:
    """What reports and stops a training that is a search's trial; None if it is none."""
    if sweep.parent is None or sweep.trial is None:
        return None
    return TrialPruner(workspace, sweep=sweep.parent, number=sweep.trial)
