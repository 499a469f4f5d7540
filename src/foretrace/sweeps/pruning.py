"""Stops a search's trial whose validation curve is hopeless."""

from math import ceil
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from foretrace.training.module import VALID_MSE
from foretrace.workspace import Workspace

if TYPE_CHECKING:
    from optuna.trial import Trial


class TrialPruner(Callback):
    """Reports each epoch's validation error to the study and stops a trial that the median rule gives up.

    A trial is given up when its lowest error so far is above the median error of the finished trials at the
    same epoch (Golovin et al. 2017, Google Vizier, section 3.5.1, as in Optuna's `MedianPruner`). An epoch that
    is trained again, as its process had ended before the checkpoint, was reported already and is left as it is.

    The study bears the id of the search's parent run.

    Attributes:
        pruned_at: The epoch, from 0, after which it was given up; None if it was not.
    """

    def __init__(self, workspace: Workspace, *, sweep: str, number: int) -> None:
        self._workspace, self._sweep, self._number = workspace, sweep, number
        self._trial: Trial | None = None
        self._reported: set[int] = set()
        self.pruned_at: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return that it was given up, for a process that ends before it could say so."""
        return {} if self.pruned_at is None else {"pruned_at": self.pruned_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.pruned_at = state["pruned_at"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Open the study; train no further what was given up."""
        import optuna

        from foretrace.sweeps.search import PRUNING, storage_of

        storage, pruner = storage_of(self._workspace, self._sweep), optuna.pruners.NopPruner()
        study = optuna.load_study(study_name=self._sweep, storage=storage, pruner=pruner)
        if (settings := study.user_attrs[PRUNING]) is not None:
            study.pruner = optuna.pruners.MedianPruner(
                n_startup_trials=settings["startup_trials"],
                n_warmup_steps=ceil(settings["warmup"] * (trainer.max_epochs or 0)),
                n_min_trials=settings["startup_trials"],  # that got so far: some end early by themselves
            )
        study_id = storage.get_study_id_from_name(self._sweep)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, self._number)
        self._reported = set(storage.get_trial(trial_id).intermediate_values)
        self._trial = optuna.trial.Trial(study, trial_id)
        trainer.should_stop = trainer.should_stop or self.pruned_at is not None

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Report and ask; after the last epoch there is nothing to save any more."""
        assert self._trial is not None, "opened when training started"
        epoch = trainer.current_epoch
        if epoch not in self._reported:
            self._trial.report(float(trainer.callback_metrics[VALID_MSE]), epoch)
        if epoch + 1 != trainer.max_epochs and self._trial.should_prune():
            self.pruned_at = epoch
            trainer.should_stop = True
