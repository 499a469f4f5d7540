"""The jobs of a sweep before any begins. Imports nothing heavy: a wrong setting is answered at once."""

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError

Job = tuple[str, ...]  # overrides, as typed for this one job
Compose = Callable[[Sequence[str]], DictConfig]  # from overrides to a configuration

MAX_JOBS = 10_000  # the parent run records them all
RESUME = "sweep.resume="
PLACE = ("sweep.", "resume=", "tracking.uri=")  # where and how a job runs, not what it is


def own(overrides: Iterable[str]) -> Job:
    """Return what a job is, without how and where it runs.

    >>> own(["seed=2", "sweep.parent=0a1b", "tracking.uri=http://somewhere"])
    ('seed=2',)
    """
    return tuple(override for override in overrides if not override.lstrip("+").startswith(PLACE))


def settings(job: Sequence[str]) -> dict[str, str]:
    """Return a job's overrides by name, with values as they were typed.

    >>> settings(["model.dropout=0.1", "+seed=2"])
    {'model.dropout': '0.1', 'seed': '2'}
    """
    pairs = (override.lstrip("+").partition("=") for override in job)
    return {key: value for key, _, value in pairs}


def varied(jobs: Iterable[Sequence[str]]) -> list[str]:
    """Return the names of the settings that differ between jobs, in the order in which they were typed.

    >>> varied([["data=files", "model.dropout=0"], ["data=files", "model.dropout=0.1"]])
    ['model.dropout']
    """
    found = [settings(job) for job in jobs]
    names = dict.fromkeys(name for job in found for name in job)
    return [name for name in names if len({job.get(name) for job in found}) > 1]


def brief(job: Sequence[str], names: Sequence[str]) -> str:
    """Return what sets a job apart.

    >>> brief(["data=files", "seed=2"], ["seed"])
    'seed=2'
    """
    values = settings(job)
    return " ".join(f"{name}={values[name]}" for name in names if name in values)


def sweep_to_resume(typed: Sequence[str]) -> str | None:
    """Return the id of the sweep to resume, if that is what is asked for.

    Raises:
        UserError: If settings stand beside it, as those of the jobs are recorded; if a single run is to be
            resumed; or if something is typed that the sweep sets for each job.

    >>> sweep_to_resume(["sweep.resume=0a1b", "tracking.uri=http://somewhere"])
    '0a1b'
    """
    for one in (one.lstrip("+") for one in typed):
        if one.startswith("resume="):
            hint = "Leave out -m, or resume a whole sweep: sweep.resume=<id>."
            raise UserError("resume: names a single run, but -m asks for a sweep", hint=hint)
        if one.startswith(("sweep.", "sweep=")) and not one.startswith(RESUME):
            raise UserError(f"{one.partition('=')[0]}: the sweep sets it for each of its jobs")
    ids = [one.removeprefix(RESUME) for one in typed if one.startswith(RESUME)]
    if not ids or ids[-1] in ("", "null"):
        return None
    if others := own(typed):
        hint = "Only hydra/launcher=…, hydra.sweeper.n_jobs=… and tracking.uri=… may stand beside it."
        raise UserError(f"sweep.resume: takes settings from its record, got {' '.join(others)}", hint=hint)
    return ids[-1]


def check_number(asked: Sequence[Override]) -> None:
    """Count the combinations of values before they are made: a range may be of any length.

    Raises:
        UserError: If there is none, or there are more than `MAX_JOBS`.
    """
    number = 1
    for one in (one for one in asked if one.is_discrete_sweep()):
        values: Any = one.value()
        if isinstance(values, RangeSweep):  # whose other iterator makes a shuffled one as a whole
            iterator: Iterable[Any] = values.range() if values.step else ()
        else:
            iterator = one.sweep_iterator()
        number *= sum(1 for _ in islice(iterator, MAX_JOBS + 1))
        if not number:
            raise UserError(f"{one.input_line}: no value to try")
        if number > MAX_JOBS:
            hint = "Try fewer values, or search: hydra/sweeper=optuna."
            raise UserError(f"{one.input_line}: a sweep has at most {MAX_JOBS:,} jobs", hint=hint)


def check(jobs: Sequence[Sequence[str]], compose: Compose) -> list[TrainConfig]:
    """Return every job's settings, composed and checked.

    Raises:
        UserError: If a setting cannot be used; names the job.
    """
    checked, names = list[TrainConfig](), varied(jobs)
    for number, job in enumerate(jobs, start=1):
        try:
            checked.append(parse(compose(job), TrainConfig))
        except UserError as error:
            if not names:
                raise
            message = f"job {number} of {len(jobs)} ({brief(job, names)}): {error.message}"
            raise UserError(message, hint=error.hint) from error
    return checked


def require_optuna() -> None:
    """Say what a search takes, where it is not installed."""
    if find_spec("optuna") is None:
        raise UserError("a search needs Optuna", hint='Run: pip install "foretrace[sweeps]"')
