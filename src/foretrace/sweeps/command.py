"""From the command line to a sweep: what is asked for is checked before anything is made.

Imports nothing heavy at its start: a wrong setting is answered at once.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from foretrace.config import TrainConfig
from foretrace.sweeps import jobs, workers
from foretrace.sweeps.jobs import Compose
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

if TYPE_CHECKING:
    from foretrace.sweeps.sweep import Sweep

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
    places = workers.count_places(launcher, n_jobs)
    filter_library_logs()

    def compose(overrides: Sequence[str]) -> DictConfig:
        composed = loader.load_sweep_config(config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return composed

    if resumed := jobs.sweep_to_resume(typed):
        asked = any(one.startswith("hydra.sweeper.n_trials=") for one in hydra.overrides.hydra)
        begun = _resume(resumed, typed, {"n_trials": search["n_trials"]} if asked and search else {}, compose)
    elif search:
        begun = _begin_search(typed, search, compose)
    else:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(typed))
        jobs.check_number(parsed)
        [asked_for] = BasicSweeper.split_arguments(parsed, None)
        begun = _begin(typed, {"jobs": list(asked_for)}, jobs.check(asked_for, compose))
    from foretrace.sweeps.run import run

    folders = [one.path for one in hydra.runtime.config_sources if one.provider == "command-line"]
    options = [f"--config-name={hydra.job.config_name}", *(f"--config-dir={folder}" for folder in folders)]
    passed = [one for one in hydra.overrides.hydra if not one.startswith(OF_THE_SWEEP)]
    start = workers.starter(launcher, places=places, command=[*workers.COMMAND, *options, *passed])
    if status := run(begun, start, places=places):
        sys.exit(status)


def _begin_search(typed: Sequence[str], settings: dict[str, Any], compose: Compose) -> "Sweep":
    jobs.require_optuna()
    from foretrace.sweeps.space import Plan, check_space

    plan = Plan.of({"overrides": list(jobs.own(typed)), **settings})
    space, fixed = plan.space()
    checked = check_space(space, [*fixed, *_uri(typed)], compose)
    return _begin(typed, {"search": plan.model_dump()}, checked)


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


def _resume(run_id: str, typed: Sequence[str], changes: dict[str, Any], compose: Compose) -> "Sweep":
    """Return the sweep as what it was begun, whatever sweeper is named now."""
    [checked] = jobs.check([_uri(typed)], compose)
    from foretrace.sweeps.sweep import reopen

    found = reopen(run_id, workspace=replace(Workspace.default(), uri=checked.tracking.uri), **changes)
    found.check(compose)
    return found


def _uri(typed: Sequence[str]) -> list[str]:
    return [one for one in typed if one.startswith("tracking.uri=")]
