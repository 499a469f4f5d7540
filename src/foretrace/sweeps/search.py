"""A search: asks Optuna what to try, trains it as jobs of a sweep, and tells the study what came of it."""

import sys
from collections.abc import Sequence

from hydra.plugins.launcher import Launcher
from optuna.trial import TrialState
from pydantic import ValidationError

from foretrace.config import TrainConfig
from foretrace.config.run_config import check_overrides
from foretrace.errors import InputError
from foretrace.sweeps import space
from foretrace.sweeps.children import VALID, Child
from foretrace.sweeps.grid import FAILED_STATUS, UnfinishedError
from foretrace.sweeps.jobs import brief
from foretrace.sweeps.launching import launch
from foretrace.sweeps.parent import Sweep, check_parts
from foretrace.sweeps.space import Plan
from foretrace.sweeps.study import Study, path
from foretrace.workspace import Workspace

NOTE = "search"  # of the parent run: the plan


def begin(plan: Plan, checked: Sequence[TrainConfig], *, command: Sequence[str]) -> Sweep:
    """Makes the parent run of a new search.

    Args:
        plan: What is searched.
        checked: Settings from all over it; see `space.check`.
        command: What the user typed after ``-m``, for the record.

    Raises:
        InputError: If there is no such optimiser or simulator, or the store cannot be reached.
    """
    check_parts(checked)
    tracking = checked[0].tracking
    notes = {NOTE: plan.model_dump_json()}
    return Sweep.begin(None, tracking=tracking, workspace=Workspace.default(), command=command, notes=notes)


def recorded(sweep: Sweep, **changes: int) -> Plan:
    """The plan of a search that was begun before.

    Args:
        sweep: Reopened.
        changes: What is asked for otherwise today: ``n_trials`` or ``n_jobs``.

    Raises:
        InputError: If the study is not in this checkout, or there were more trials already.
    """
    try:
        plan = space.read(Plan.model_validate_json(str(sweep.notes.get(NOTE))).model_dump() | changes)
    except ValidationError as error:
        expected, reason = "the plan of a search in the record", error.errors()[0]["msg"]
        raise InputError("sweep.resume", expected=expected, received=reason) from error
    choices = [f"{one.key}={value}" for one in plan.space for value in one.choices or ("0",)]
    check_overrides([*plan.fixed, *choices], key="sweep.resume")
    begun, file = sweep.children(), path(Workspace.default(), sweep.id)
    if begun and not file.exists():
        remedy = "Go on in the checkout in which the search was begun."
        raise InputError("sweep.resume", expected=f"the study {file}", received="none", remedy=remedy)
    if plan.n_trials < len(begun):
        expected, received = f"at least the {len(begun)} trials that were begun", str(plan.n_trials)
        raise InputError(f"{space.KEY}.n_trials", expected=expected, received=received)
    sweep.notes[NOTE] = plan.model_dump_json()
    return plan


def run(sweep: Sweep, launcher: Launcher, plan: Plan) -> int:
    """Tries what is left of a search; returns the exit status.

    Args:
        sweep: Made by `begin`, or reopened.
        launcher: Hydra's, set up.
        plan: What is searched.
    """
    search = None
    try:
        with sweep:
            sweep.mend()
            search = Search(sweep, launcher, plan)
            search.go_on()
            if search.told < plan.n_trials or search.failed:
                raise UnfinishedError(search.verdict())
    except UnfinishedError:
        return FAILED_STATUS
    finally:
        if search and search.told < plan.n_trials:
            print(f"what is missing: python src/train.py sweep.resume={sweep.id}", flush=True)
        verdict = search.verdict() if search else ""
        print(f"sweep={sweep.id} status={sweep.status} {verdict}", flush=True)
    return 0


class Search:
    """A search at work.

    Args:
        sweep: Its parent run, within its block.
        launcher: Hydra's, set up.
        plan: What is searched.
    """

    def __init__(self, sweep: Sweep, launcher: Launcher, plan: Plan) -> None:
        self._sweep, self._launcher, self._plan = sweep, launcher, plan
        self._study = Study.begin(Workspace.default(), sweep.id, pruning=plan.pruning)

    @property
    def told(self) -> int:
        """How many trials have ended, in whatever way."""
        return len(self._study.trials) - len(self._study.open)

    @property
    def failed(self) -> list[int]:
        """Numbers of the trials without a result; where training diverged, that is a result of a kind."""
        begun = self._begun()
        ended = [trial.number for trial in self._study.trials if trial.state == TrialState.FAIL]
        return [number for number in ended if number not in begun or not begun[number].has_diverged]

    def verdict(self) -> str:
        """How far it got, in a sentence for people and scripts."""
        states = [trial.state for trial in self._study.trials]
        told = f"{self.told} of {self._plan.n_trials} trials ended"
        told += f", {pruned} of them pruned" if (pruned := states.count(TrialState.PRUNED)) else ""
        told += f", {failed} failed" if (failed := len(self.failed)) else ""
        told += f", {diverged} diverged" if (diverged := states.count(TrialState.FAIL) - failed) else ""
        if TrialState.COMPLETE not in states:
            return told
        best = self._study.optuna.best_trial
        child = self._begun()[best.number]
        return f"{told}; best {child.run_id} {VALID}={best.value:.6g} ({brief(child.job, self._plan.names)})"

    def go_on(self) -> None:
        """Tries what was begun and not ended, and then anew up to the number of trials asked for."""
        self._tell(self._study.open)
        left = [number for number in self._study.open if not self._is_at_work(number)]
        known = f", {self.told} of them ended before" if self.told else ""
        print(f"search   {self._sweep.id}: {self._plan.n_trials} trials{known}", flush=True)
        while True:
            part, left = left[: self._plan.n_jobs], left[self._plan.n_jobs :]
            room = min(self._plan.n_jobs - len(part), self._plan.n_trials - len(self._study.trials))
            part += [self._study.begin_trial(seed=self._plan.seed) for _ in range(room)]
            if not part:
                break
            self._try(part)
        self._tell(self._study.open)

    def _try(self, numbers: Sequence[int]) -> None:
        begun, tried = self._begun(), []
        for number in numbers:
            values = self._study.propose(number, self._plan.space, seed=self._plan.seed)
            job = space.job(self._plan.fixed, values)
            child = begun.get(number)
            resumed = child.run_id if child and child.has_checkpoint else None
            told = f"trial    {number + 1} of {self._plan.n_trials}: {brief(job, self._plan.names)}"
            print(told + (f" goes on with run {resumed}" if resumed else ""), flush=True)
            tried.append((job, self._sweep.overrides(job, trial=number, resume=resumed)))
        launch(self._sweep, self._launcher, tried, batch=len(tried), names=self._plan.names)
        never_begun = [
            number
            for number, (job, _) in zip(numbers, tried, strict=True)
            if number not in self._begun() and job in self._sweep.failures
        ]
        for number in never_begun:
            self._study.tell(number, TrialState.FAIL)
        self._tell([number for number in numbers if number not in never_begun])

    def _tell(self, numbers: Sequence[int]) -> None:
        """Tells the study of those that have ended. What was killed has not: it can be gone on with."""
        begun = self._begun()
        for child in (begun[number] for number in numbers if number in begun):
            assert child.trial is not None, "given to each by the search"
            if child.pruned:
                self._study.tell(child.trial, TrialState.PRUNED)
            elif child.has_result:
                self._study.tell(child.trial, TrialState.COMPLETE, child.metrics[VALID])
            elif _has_failed(child):
                self._study.tell(child.trial, TrialState.FAIL)

    def _begun(self) -> dict[int, Child]:
        return {child.trial: child for child in self._sweep.children() if child.trial is not None}

    def _is_at_work(self, number: int) -> bool:
        child = self._begun().get(number)
        if child is None or not child.at_work:
            return False
        reason = "is at work in another process, and left alone"
        print(f"trial    {number + 1}: run {child.run_id} {reason}", file=sys.stderr)
        return True


def _has_failed(child: Child) -> bool:
    return child.status == "FAILED" and not child.pruned
