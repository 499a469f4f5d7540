"""A search: Optuna's study proposes what to try, learns what came of it, and stops trials that are hopeless."""

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from foretrace.errors import UserError
from foretrace.sweeps.children import VALID, Child
from foretrace.sweeps.jobs import Compose, own
from foretrace.sweeps.space import Plan, check_space, typed
from foretrace.sweeps.sweep import Sweep
from foretrace.tracking.run import TrackedRun
from foretrace.workspace import Workspace

optuna.logging.set_verbosity(optuna.logging.WARNING)  # we say ourselves what is tried and what came of it

PRUNING = "pruning"  # attribute of the study
STATES = {"FINISHED": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED}


def journal(workspace: Workspace, sweep_id: str) -> Path:
    """Return the file of a search's study, to which the search and all of its trials append.

    Lines that are only ever appended bear several processes at once also on the shared file systems of clusters,
    where SQLite's locks do not hold.
    """
    return workspace.mlruns / "searches" / f"{sweep_id}.journal"


def storage_of(workspace: Workspace, sweep_id: str) -> JournalStorage:
    """Return Optuna's storage of a search."""
    return JournalStorage(JournalFileBackend(str(journal(workspace, sweep_id))))


class Search(Sweep):
    """A sweep of trials: those that were begun and have not ended, then new ones up to their number.

    The ``search`` of its record is a `Plan` as a dictionary.

    Raises:
        UserError: If there can be no such search.
    """

    def __init__(self, tracked: TrackedRun, *, workspace: Workspace, record: dict[str, Any]) -> None:
        super().__init__(tracked, workspace=workspace, record=record)
        self.plan = Plan.of(record["search"])
        self.number = self.plan.n_trials
        self._space, self._fixed = self.plan.space()
        self.names = [key.lstrip("+") for key in self._space]
        self._journal = journal(workspace, self.id)

    def check(self, compose: Compose) -> None:
        """See whether what is left can still be done.

        Raises:
            UserError: If the study is not in this checkout, more trials were begun already, or settings have changed.
        """
        begun = len(self.children())
        if begun and not self._journal.exists():
            hint = "Resume it in the checkout in which it was begun."
            raise UserError(f"sweep.resume: there is no study {self._journal}", hint=hint)
        if self.number < begun:
            raise UserError(f"hydra.sweeper.n_trials: {begun} trials were begun, got {self.number}")
        check_space(self._space, self._fixed, compose)

    def __enter__(self) -> "Search":
        super().__enter__()
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        if self._journal.exists():
            _cut_broken_end(self._journal)
        storage = storage_of(self.workspace, self.id)
        self.study = optuna.create_study(study_name=self.id, storage=storage, load_if_exists=True)
        self.study.set_user_attr(PRUNING, self.plan.pruning and self.plan.pruning.model_dump())
        begun = self.begun()
        unfinished = [trial for trial in self._trials() if not trial.state.is_finished()]
        trials = [begun.get(trial.number) or self._child(trial) for trial in unfinished]
        for child in trials:  # a kill may have come between a trial's end and the study
            self.tell(child)
        self.left.clear()
        self.left.extend(child for child in trials if not child.has_ended and not child.at_work)
        return self

    def children(self) -> list[Child]:
        """Return one child per trial that was begun, in the order of their numbers."""
        begun = self.begun()
        return [begun[key] for key in sorted(key for key in begun if isinstance(key, int))]

    def propose(self) -> Child | None:
        """Return the next trial, with its run if it has one."""
        if (child := super().propose()) or (begun := len(self._trials())) >= self.number:
            return child
        # One at a time, each draws from numbers of its own: a search that is resumed proposes the same. Trials at
        # work count as bad, lest a place that becomes free tries what another one tries already.
        drawn = np.random.SeedSequence(self.plan.seed, spawn_key=(begun,)).generate_state(1)
        seed = None if self.plan.seed is None else int(drawn[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        number = self.study.ask(self._space).number
        return self._child(self.study.get_trials(deepcopy=False)[number])

    def tell(self, child: Child) -> None:
        """Tell the study what became of a trial. What was killed has not ended: it is taken up again."""
        if child.has_ended:
            assert child.trial is not None, "given by `propose`"
            state = STATES.get(child.status, TrialState.FAIL)
            value = child.metrics[VALID] if state == TrialState.COMPLETE else None
            self.study.tell(child.trial, value, state=state)

    def _trials(self) -> list[FrozenTrial]:
        """Return those that know what to try; a kill may have come between."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.params.keys() == self._space.keys()]

    def _child(self, trial: FrozenTrial) -> Child:
        values = [f"{key}={typed(kind, trial.params[key])}" for key, kind in self._space.items()]
        return Child(own([*self._fixed, *values]), trial=trial.number)


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
        self._trial = Trial(study, trial_id)
        trainer.should_stop = trainer.should_stop or self.pruned_at is not None

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Report and ask; after the last epoch there is nothing to save any more."""
        assert self._trial is not None, "opened when training started"
        epoch = trainer.current_epoch
        if epoch not in self._reported:
            self._trial.report(float(trainer.callback_metrics[VALID]), epoch)
        if epoch + 1 != trainer.max_epochs and self._trial.should_prune():
            self.pruned_at = epoch
            trainer.should_stop = True


def _cut_broken_end(file: Path) -> None:
    """Remove a last line without an end, as a kill leaves it: once another followed, Optuna would read no further."""
    lock = JournalFileSymlinkLock(str(file))
    lock.acquire()
    try:
        with file.open("rb+") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)
    finally:
        lock.release()
