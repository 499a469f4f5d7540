"""Hydra's way to our searches: the sweeper of ``python src/train.py -m hydra/sweeper=optuna …``.

Hydra takes sweepers from this namespace only, and imports the file at every start: nothing heavy here.
"""

from typing import Any

from omegaconf import OmegaConf

from foretrace.sweeps import jobs
from hydra_plugins import foretrace_sweepers


class SearchSweeper(foretrace_sweepers.GridSweeper):
    """Trials that Optuna proposes one after the other, all under one parent run.

    Both ends of every range are checked before anything is made. ``sweep.resume=<id>`` goes on with a search.

    Args:
        max_batch_size: Of a sweep of known jobs, should it go on with one.
        params: Further overrides, as on the command line.
        settings: See `foretrace.sweeps.space.Plan`.
    """

    def __init__(self, max_batch_size: int | None, params: Any, **settings: Any) -> None:
        super().__init__(max_batch_size, params)
        self.settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(settings))  # type: ignore[assignment]

    def sweep(self, arguments: list[str]) -> None:
        """Runs all trials, or those that a search still lacks; ends the process with 1 if one failed."""
        if jobs.to_resume(arguments):
            super().sweep(arguments)
            return
        from foretrace.sweeps import space

        plan = space.plan(self._parse(arguments), self.settings)
        checked = space.check(plan, self._compose)
        space.require_optuna()
        from foretrace.sweeps import search  # seconds

        begun = search.begin(plan, checked, command=arguments)
        self._finish(lambda launcher: search.run(begun, launcher, plan))

    def _asked_of_search(self) -> dict[str, int]:
        assert self.config is not None, "set up by Hydra"
        typed = {one.partition("=")[0] for one in self.config.hydra.overrides.hydra}
        names = [name for name in ("n_trials", "n_jobs") if f"hydra.sweeper.{name}" in typed]
        return {name: self.settings[name] for name in names}
