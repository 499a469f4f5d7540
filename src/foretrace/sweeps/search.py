"""A search: Optuna's study of it proposes what to try, and learns what came of it."""

from collections import deque
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from foretrace.errors import UserError
from foretrace.sweeps.children import VALID, Child
from foretrace.sweeps.jobs import own
from foretrace.sweeps.parent import Sweep
from foretrace.sweeps.space import Plan, texts
from foretrace.workspace import Workspace

optuna.logging.set_verbosity(optuna.logging.WARNING)  # we say ourselves what is tried and what came of it

PRUNING = "pruning"  # attribute of the study


def journal(workspace: Workspace, sweep_id: str) -> Path:
    """Return the file of a search's study, to which the search and all of its trials append.

    Lines that are only ever appended bear several processes at once also on the shared file systems of clusters,
    where SQLite's locks do not hold.
    """
    return workspace.mlruns / "searches" / f"{sweep_id}.journal"


def storage_of(workspace: Workspace, sweep_id: str) -> JournalStorage:
    """Return Optuna's storage of a search."""
    return JournalStorage(JournalFileBackend(str(journal(workspace, sweep_id))))


def recorded_plan(sweep: Sweep, **changes: int) -> Plan:
    """Return the plan of a search to resume.

    Args:
        sweep: The search, reopened.
        changes: What is asked for otherwise today: ``n_trials``.

    Raises:
        UserError: If the record has none, the study is not in this checkout, or more trials were begun already.
    """
    plan, begun = Plan.of(sweep.record["search"] | changes), len(sweep.children())
    file = journal(sweep.workspace, sweep.id)
    if begun and not file.exists():
        hint = "Resume it in the checkout in which it was begun."
        raise UserError(f"sweep.resume: there is no study {file}", hint=hint)
    if plan.n_trials < begun:
        raise UserError(f"hydra.sweeper.n_trials: {begun} trials were begun, got {plan.n_trials}")
    return plan


class Search:
    """The trials of a search: those that were begun and have not ended, then new ones up to their number.

    Args:
        sweep: Its parent run, within its block.
        plan: What is searched.
    """

    def __init__(self, sweep: Sweep, plan: Plan) -> None:
        self._sweep, self._plan, self.number = sweep, plan, plan.n_trials
        self._space, self._fixed = plan.space()
        sweep.names = [key.lstrip("+") for key in self._space]
        file = journal(sweep.workspace, sweep.id)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            _cut_broken_end(file)
        storage = storage_of(sweep.workspace, sweep.id)
        self.study = optuna.create_study(study_name=sweep.id, storage=storage, load_if_exists=True)
        self.study.set_user_attr(PRUNING, plan.pruning and plan.pruning.model_dump())
        begun = sweep.begun()
        for trial in self._trials():
            if trial.number in begun and not trial.state.is_finished():
                self.tell(begun[trial.number])
        left = [trial.number for trial in self._trials() if not trial.state.is_finished()]
        self._left = deque(number for number in left if number not in begun or not begun[number].at_work)

    def _trials(self) -> list[FrozenTrial]:
        """Return those that know what to try; a kill may have come between."""
        return [
            one for one in self.study.get_trials(deepcopy=False) if one.params.keys() == self._space.keys()
        ]

    def propose(self) -> Child | None:
        """Return the next trial, with its run if it has one."""
        if self._left:
            number = self._left.popleft()
        elif (begun := len(self._trials())) < self.number:
            self.study.sampler = _sampler(self._plan.seed, begun)
            number = self.study.ask(self._space).number
        else:
            return None
        params = self.study.get_trials(deepcopy=False)[number].params
        values = [f"{key}={texts(kind, [params[key]])[0]}" for key, kind in self._space.items()]
        return self._sweep.begun().get(number, Child(own([*self._fixed, *values]), trial=number))

    def again(self, child: Child) -> None:
        """Take up a trial that was killed."""
        assert child.trial is not None, "given by `propose`"
        self._left.append(child.trial)

    def tell(self, child: Child) -> None:
        """Tell the study what became of a trial. What was killed has not ended: it is taken up again."""
        assert child.trial is not None, "given by `propose`"
        if child.status == "FINISHED":
            self.study.tell(child.trial, child.metrics[VALID])
        elif child.status == "PRUNED":
            self.study.tell(child.trial, state=TrialState.PRUNED)
        elif child.status in ("FAILED", "DIVERGED") or child.job in self._sweep.failures:
            self.study.tell(child.trial, state=TrialState.FAIL)


def _sampler(seed: int | None, number: int) -> optuna.samplers.TPESampler:
    """Return one that draws from numbers of the trial's own: one at a time, a resumed search proposes the same.

    Trials at work count as bad, lest a place that becomes free tries what another one tries already.
    """
    drawn = (
        None if seed is None else int(np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0])
    )
    return optuna.samplers.TPESampler(seed=drawn, constant_liar=True)


def _cut_broken_end(file: Path) -> None:
    """Remove a last line without an end, as a kill leaves it: once another followed, Optuna would read no further."""
    lock = JournalFileSymlinkLock(str(file))
    lock.acquire()
    try:
        with file.open("rb+") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)
    finally:
        lock.release()
