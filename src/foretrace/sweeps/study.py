"""A search's study: one file for each search, to which the search and all of its trials append."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from foretrace.sweeps.space import Dimension, Pruning
from foretrace.workspace import Workspace

optuna.logging.set_verbosity(optuna.logging.WARNING)  # we say ourselves what is tried and what came of it

PRUNING = "pruning"  # attribute of the study


def path(workspace: Workspace, sweep_id: str) -> Path:
    """Where the study of a search is kept."""
    return workspace.mlruns / "searches" / f"{sweep_id}.journal"


class Study:
    """Optuna's study of one search, in its file.

    Lines that are only ever appended bear several processes at once also on the shared file systems of clusters,
    where SQLite's locks do not hold.

    Args:
        workspace: Where it is kept.
        sweep_id: The search's parent run.

    Attributes:
        optuna: The study.

    Raises:
        KeyError: If there is no such study.
    """

    def __init__(self, workspace: Workspace, sweep_id: str) -> None:
        self._storage = JournalStorage(JournalFileBackend(str(path(workspace, sweep_id))))
        self._id = self._storage.get_study_id_from_name(sweep_id)
        # Whoever only reports proposes nothing; `propose` brings its own sampler.
        idle = optuna.samplers.RandomSampler()
        self.optuna = optuna.load_study(study_name=sweep_id, storage=self._storage, sampler=idle)

    @classmethod
    def begin(cls, workspace: Workspace, sweep_id: str, *, pruning: Pruning | None) -> "Study":
        """Makes the study, or takes the one that is there, without what a process left half written."""
        file = path(workspace, sweep_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            _cut_broken_end(file)
        storage = JournalStorage(JournalFileBackend(str(file)))
        made = optuna.create_study(
            study_name=sweep_id, storage=storage, direction="minimize", load_if_exists=True
        )
        made.set_user_attr(PRUNING, pruning and pruning.model_dump())
        return cls(workspace, sweep_id)

    @property
    def pruning(self) -> Pruning | None:
        """When a trial may be stopped early; None: never."""
        settings = self.optuna.user_attrs.get(PRUNING)
        return settings and Pruning.model_validate(settings)

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """All that were begun, by number."""
        return self.optuna.get_trials(deepcopy=False)

    @property
    def open(self) -> list[int]:
        """Numbers of the trials whose end was not told."""
        return [trial.number for trial in self.trials if not trial.state.is_finished()]

    def begin_trial(self, *, seed: int | None) -> int:
        """Makes a new trial; returns its number. What it is to try is for `propose` to say."""
        self.optuna.sampler = _sampler(seed, len(self.trials))
        return self.optuna.ask().number

    def propose(self, number: int, space: Sequence[Dimension], *, seed: int | None) -> dict[str, str]:
        """The values that a trial is to try, as they are typed; the same each time it is asked."""
        self.optuna.sampler = _sampler(seed, number)
        trial = optuna.trial.Trial(self.optuna, self._trial_id(number))
        return {dimension.key: dimension.suggest(trial) for dimension in space}

    def report(self, number: int, value: float, epoch: int) -> FrozenTrial:
        """Tells a trial's error after an epoch, unless that was told before; returns the trial as it is now."""
        trial_id = self._trial_id(number)
        trial = self._storage.get_trial(trial_id)
        if epoch in trial.intermediate_values or trial.state.is_finished():
            return trial
        self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        return self._storage.get_trial(trial_id)

    def tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Tells what became of a trial."""
        self.optuna.tell(number, value, state=state)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)


def _sampler(seed: int | None, number: int) -> optuna.samplers.TPESampler:
    """Draws for each trial from numbers of its own: a search that was cut goes on as it would have."""
    if seed is None:
        return optuna.samplers.TPESampler()
    drawn = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)
    return optuna.samplers.TPESampler(seed=int(drawn[0]))


def _cut_broken_end(file: Path) -> None:
    """Removes a last line without an end: once another follows it, Optuna would read no further."""
    lock = JournalFileSymlinkLock(str(file))
    lock.acquire()
    try:
        with file.open("rb+") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)
    finally:
        lock.release()
