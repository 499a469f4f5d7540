"""From the command line to the jobs of a sweep: all that is asked for is checked before anything is made.

Imports nothing heavy at its start: a wrong setting is answered at once.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig, open_dict

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.sweeps import workers
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

if TYPE_CHECKING:
    from foretrace.sweeps.sweep import Sweep

Job = tuple[str, ...]  # overrides, as typed for this one job
Compose = Callable[[Sequence[str]], DictConfig]  # from overrides to a configuration

MAX_JOBS = 10_000  # the parent run records them all
RESUME, URI = "sweep.resume=", "tracking.uri="
PLACE = ("sweep.", "resume=", URI)  # where and how a job runs, not what it is
OF_THE_SWEEP = ("hydra.mode=", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweep")


def sweep(
    typed: Sequence[str],
    *,
    config: DictConfig,
    loader: ConfigLoader,
    n_jobs: int | None,
    search: dict[str, Any],
) -> None:
    """Do all jobs, or those that a sweep still lacks; end the process with 1 if one failed.

    What was typed is not in the config yet. Without ``n_jobs`` to be at work at once, the launcher says how many; an
    empty search is a grid.

    Raises:
        UserError: If something that was typed cannot be used; then there is no run.
    """
    launcher, hydra = config.hydra.launcher, config.hydra
    places, uri = workers.count_places(launcher, n_jobs), [one for one in typed if one.startswith(URI)]
    filter_library_logs()

    def compose(overrides: Sequence[str]) -> DictConfig:
        composed = loader.load_sweep_config(config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return composed

    if resumed := sweep_to_resume(typed):
        [checked] = check([uri], compose)
        from foretrace.sweeps.sweep import reopen

        asked = search and any(one.startswith("hydra.sweeper.n_trials=") for one in hydra.overrides.hydra)
        changes = {"n_trials": search["n_trials"]} if asked else {}
        begun = reopen(resumed, workspace=replace(Workspace.default(), uri=checked.tracking.uri), **changes)
        begun.check(compose)
    elif search:
        require_optuna()
        from foretrace.sweeps.space import Plan, check_space

        plan = Plan.of({"overrides": list(own(typed)), **search})
        space, fixed = plan.space()
        begun = _begin(typed, {"search": plan.model_dump()}, check_space(space, [*fixed, *uri], compose))
    else:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(typed))
        check_number(parsed)
        [asked_for] = BasicSweeper.split_arguments(parsed, None)
        begun = _begin(typed, {"jobs": list(asked_for)}, check(asked_for, compose))
    from foretrace.sweeps.sweep import run

    folders = [one.path for one in hydra.runtime.config_sources if one.provider == "command-line"]
    options = [f"--config-name={hydra.job.config_name}", *(f"--config-dir={folder}" for folder in folders)]
    passed = [one for one in hydra.overrides.hydra if not one.startswith(OF_THE_SWEEP)]
    start = workers.starter(launcher, places=places, command=[*workers.COMMAND, *options, *passed])
    if status := run(begun, start, places=places):
        sys.exit(status)


def _begin(typed: Sequence[str], record: dict[str, Any], checked: Sequence[TrainConfig]) -> "Sweep":
    """Check what torch alone can tell, and whether data can be made, once for jobs that share them; then begin."""
    from foretrace.data import sources
    from foretrace.training import optimizers

    parts = {str((config.data, config.optimizer, config.scheduler)): config for config in checked}
    for config in parts.values():
        sources.check(config.data)
        optimizers.check_optimizer(config)
    from foretrace.sweeps.sweep import begin

    tracking = checked[0].tracking
    workspace = replace(Workspace.default(), uri=tracking.uri)
    return begin(record, tracking=tracking, workspace=workspace, command=typed)


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
        UserError: If settings stand beside it, as those of the jobs are recorded; or if something is typed that the
            sweep sets for each job.

    >>> sweep_to_resume(["sweep.resume=0a1b", "tracking.uri=http://somewhere"])
    '0a1b'
    """
    for one in (one.lstrip("+") for one in typed):
        if one.startswith(("resume=", "sweep.", "sweep=")) and not one.startswith(RESUME):
            hint = "A single run: resume=<id> without -m. A whole sweep: sweep.resume=<id>."
            raise UserError(f"{one.partition('=')[0]}: a sweep sets it for each of its jobs", hint=hint)
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
