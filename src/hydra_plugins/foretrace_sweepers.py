"""Hydra's way to our sweeps: the sweeper of ``python src/train.py -m …``.

Hydra takes sweepers from this namespace only, and imports the file at every start: nothing heavy here.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict

from foretrace.sweeps import jobs


class GridSweeper(BasicSweeper):
    """One job for every combination of the given values, all under one parent run.

    Every job's settings are checked before anything is made. ``sweep.resume=<id>`` goes on with a sweep.
    """

    def setup(self, *, config: DictConfig, **others: Any) -> None:
        """Makes the launcher."""
        jobs.check_launcher(config.hydra.launcher)
        super().setup(config=config, **others)

    def sweep(self, arguments: list[str]) -> None:
        """Runs all jobs, or those that a sweep still lacks; ends the process with 1 if one failed."""
        if resumed := jobs.to_resume(arguments):
            self._go_on(resumed, arguments)
            return
        overrides = self._parse(arguments)
        jobs.check_number(overrides)
        [asked] = self.split_arguments(overrides, None)
        checked = jobs.check(asked, self._compose)
        from foretrace.sweeps import grid  # seconds

        sweep = grid.begin(list(map(tuple, asked)), checked, command=arguments)
        self._finish(lambda launcher: grid.run(sweep, launcher, batch=self.max_batch_size))

    def _go_on(self, resumed: str, arguments: list[str]) -> None:
        """Whatever sweeper is named now: what it was begun as, it goes on as."""
        [checked] = jobs.check([arguments], self._compose)
        from foretrace.sweeps import grid, space

        sweep = grid.reopen(resumed, uri=checked.tracking.uri)
        if sweep.jobs is not None:
            jobs.check([child.job for child in sweep.children() if not child.is_done], self._compose)
            self._finish(lambda launcher: grid.run(sweep, launcher, batch=self.max_batch_size))
            return
        space.require_optuna()
        from foretrace.sweeps import search

        plan = search.recorded(sweep, **self._asked_of_search())
        space.check(plan, self._compose)
        self._finish(lambda launcher: search.run(sweep, launcher, plan))

    def _asked_of_search(self) -> dict[str, int]:
        """What a search may have otherwise than it was begun with, if that was typed."""
        return {}

    def _finish(self, run: Callable[[Launcher], int]) -> None:
        """Ends the process with the status of a sweep if that is not 0."""
        assert self.launcher is not None, "set up by Hydra"
        try:
            status = run(self.launcher)
        finally:
            self._remove_empty_folders()
        if status:
            sys.exit(status)

    def _remove_empty_folders(self) -> None:
        """Launchers make a folder for each sweep; only submitit's puts anything there."""
        assert self.config is not None, "set up by Hydra"
        folder = Path(str(self.config.hydra.sweep.dir))
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()
            folder.parent.rmdir()

    def _parse(self, arguments: list[str]) -> list[Override]:
        assert self.hydra_context is not None, "set up by Hydra"
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*self._parse_config(), *arguments])

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        assert self.hydra_context is not None, "set up by Hydra"
        assert self.config is not None, "likewise"
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return composed
