"""Hydra's way to our sweeps: the sweeper of ``python src/train.py -m …``.

Hydra takes sweepers from this namespace only, and imports the file at every start: nothing heavy here.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from foretrace.sweeps import jobs


class GridSweeper(BasicSweeper):
    """One job for every combination of the given values, all under one parent run.

    Every job's settings are checked before anything is made. ``sweep.resume=<id>`` goes on with a sweep.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Runs all jobs, or those that a sweep still lacks; ends the process with 1 if one failed."""
        resumed = jobs.to_resume(arguments)
        asked = [] if resumed else self._expand(arguments)
        checked = jobs.check(asked or [arguments], self._compose)
        from foretrace.sweeps import grid  # seconds

        tracking = checked[0].tracking
        if resumed:
            sweep = grid.reopen(resumed, uri=tracking.uri)
        else:
            sweep = grid.begin(list(map(tuple, asked)), tracking=tracking, command=arguments)
        assert self.launcher is not None, "set up by Hydra"
        try:
            status = grid.run(sweep, self.launcher, batch=self.max_batch_size)
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

    def _expand(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None, "set up by Hydra"
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        [found] = self.split_arguments(overrides, None)
        return found

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        assert self.hydra_context is not None, "set up by Hydra"
        assert self.config is not None, "likewise"
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return composed
