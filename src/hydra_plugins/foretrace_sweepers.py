"""Hydra's way to our sweeps: the sweeper of ``python src/train.py -m …``.

Hydra takes sweepers from this namespace only, and imports the file at every start: nothing heavy here.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class ParentRunSweeper(Sweeper):
    """Runs jobs as children of one parent run; see `foretrace.sweeps.jobs`.

    Args:
        n_jobs: How many are at work at once; None to go by the launcher.
        params: Further overrides, as on the command line.
        search: How to search; without it, there is one job for every combination of the given values.
    """

    def __init__(self, n_jobs: int | None, params: Any = None, **search: Any) -> None:
        self.n_jobs, self.params = n_jobs, dict(params or {})
        self.search: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(search))  # type: ignore[assignment]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composes the jobs."""
        self.config, self.loader = config, hydra_context.config_loader

    def sweep(self, arguments: list[str]) -> None:
        """Do all jobs, or those that a sweep still lacks; end the process with 1 if one failed."""
        from foretrace.sweeps.jobs import sweep

        assert self.config is not None, "by `setup`"
        typed = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        sweep(typed, config=self.config, loader=self.loader, n_jobs=self.n_jobs, search=self.search)
