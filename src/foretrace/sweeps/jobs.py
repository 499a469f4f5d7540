"""The jobs of a sweep before any is begun. Imports nothing heavy: a wrong setting is answered at once."""

import math
from collections.abc import Callable, Iterable, Sequence

from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import InputError

Job = tuple[str, ...]  # overrides, as typed for this one job

MOST = 10_000  # jobs of a sweep; their list is kept in its record
RESUME, RESUME_RUN = "sweep.resume=", "resume="
PLACE = ("sweep.", "resume=", "tracking.uri=")  # where and how a job is run, not what it is


def own(overrides: Iterable[str]) -> Job:
    """What a job is, without how and where it is run.

    >>> own(["seed=2", "sweep.parent=0a1b", "tracking.uri=http://somewhere"])
    ('seed=2',)
    """
    return tuple(override for override in overrides if not override.lstrip("+").startswith(PLACE))


def settings(job: Sequence[str]) -> dict[str, str]:
    """A job's overrides by name, with values as they were typed.

    >>> settings(["model.dropout=0.1", "+seed=2"])
    {'model.dropout': '0.1', 'seed': '2'}
    """
    pairs = (override.lstrip("+").partition("=") for override in job)
    return {key: value for key, _, value in pairs}


def varied(jobs: Iterable[Sequence[str]]) -> list[str]:
    """Names of the settings that are not the same in all jobs, in the order in which they were typed.

    >>> varied([["data=files", "model.dropout=0"], ["data=files", "model.dropout=0.1"]])
    ['model.dropout']
    """
    found = [settings(job) for job in jobs]
    names = dict.fromkeys(name for job in found for name in job)
    return [name for name in names if len({job.get(name) for job in found}) > 1]


def brief(job: Sequence[str], names: Sequence[str]) -> str:
    """A job by what sets it apart.

    >>> brief(["data=files", "seed=2"], ["seed"])
    'seed=2'
    """
    values = settings(job)
    return " ".join(f"{name}={values[name]}" for name in names if name in values)


def to_resume(arguments: Sequence[str]) -> str | None:
    """The id of the sweep to go on with, if that is what is asked for.

    Raises:
        InputError: If other settings are given beside, as those of the jobs are recorded; or a single run is to
            be gone on with.
    """
    if any(argument.startswith(RESUME_RUN) for argument in arguments):
        remedy = "Leave out -m, or go on with a whole sweep: sweep.resume=<id>"
        raise InputError("resume", expected="a single run", received="a sweep (-m)", remedy=remedy)
    ids = [argument.removeprefix(RESUME) for argument in arguments if argument.startswith(RESUME)]
    if not ids or ids[-1] in ("", "null"):
        return None
    others = own(arguments)
    if others:
        remedy = "The jobs have theirs from the record; hydra/launcher=… and tracking.uri=… may stand beside."
        received = " ".join(others)
        raise InputError("sweep.resume", expected="no other settings", received=received, remedy=remedy)
    return ids[-1]


def check_launcher(settings: DictConfig) -> None:
    """Finds what joblib would refuse only when it starts.

    Raises:
        InputError: If no job may be at work.
    """
    if settings.get("n_jobs") == 0:
        expected = "1 or more jobs at once, or -1 for one on each core"
        raise InputError("hydra.launcher.n_jobs", expected=expected, received="0")


def check_number(asked: Sequence[Override]) -> None:
    """Counts the combinations of values before they are made.

    Raises:
        InputError: If there is none, or there are more than `MOST`.
    """
    counts = [(one, _count_values(one)) for one in asked if one.is_discrete_sweep()]
    for one, count in counts:
        if not count:
            raise InputError(
                one.get_key_element(), expected="one value or more", received=str(one.input_line)
            )
    if (number := math.prod(count for _, count in counts)) > MOST:
        remedy = "Try fewer values, or search: hydra/sweeper=optuna."
        received = f"{number:,} combinations" if number < math.inf else "more than can be counted"
        raise InputError("command line", expected=f"at most {MOST:,} jobs", received=received, remedy=remedy)


def _count_values(asked: Override) -> float:
    """A range is not gone through: it may be of any length."""
    values = asked.value()
    if not isinstance(values, RangeSweep):
        return sum(1 for _ in asked.sweep_iterator())
    assert values.start is not None, "by Hydra's parser"
    assert values.stop is not None, "likewise"
    steps = (values.stop - values.start) / values.step if values.step else 0
    return max(0, math.ceil(steps)) if math.isfinite(steps) else math.inf


def check(jobs: Sequence[Sequence[str]], compose: Callable[[Sequence[str]], DictConfig]) -> list[TrainConfig]:
    """Composes and checks every job's settings.

    Args:
        jobs: Overrides of every job.
        compose: From overrides to a configuration.

    Raises:
        InputError: If a setting of any job cannot be used; names the job unless all are wrong alike.
    """
    checked: list[TrainConfig] = []
    wrong: dict[int, InputError] = {}
    for number, job in enumerate(jobs):
        try:
            checked.append(parse(compose(job), TrainConfig))
        except InputError as error:
            wrong[number] = error
    if not wrong:
        return checked
    number, first = next(iter(wrong.items()))
    names = varied(jobs)
    if not names or (len(wrong) == len(jobs) and len({str(one) for one in wrong.values()}) == 1):
        raise first
    more = f" And {len(wrong) - 1} more jobs are wrong." if len(wrong) > 1 else ""
    where = f"job {number + 1} of {len(jobs)} ({brief(jobs[number], names)}): {first.where}"
    raise InputError(
        where, expected=first.expected, received=first.received, remedy=first.remedy + more
    ) from first
