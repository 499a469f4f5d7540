"""Train a model and track the run: ``python src/train.py [KEY=VALUE ...]``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace.commands import cli
from foretrace.config import TrainConfig, parse
from foretrace.workspace import Workspace


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> dict[str, float]:
    """Checks the settings first: what trains takes seconds to import."""
    with cli.job_errors() if cfg.sweep.parent else cli.input_errors():
        # Those of a run to go on with or to repeat are in its record; alone, today's may not even fit together.
        started = cfg if cfg.resume or cfg.rerun else parse.parse(cfg, TrainConfig)
        with cli.heavy_imports():
            from foretrace.training import optimizers

            if isinstance(started, TrainConfig):
                optimizers.check(**optimizers.chosen(started))  # by torch alone: an error comes soon
            from foretrace.commands import train

        return train.run(started, overrides=cli.overrides(), workspace=Workspace.default())


if __name__ == "__main__":
    sys.exit(cli.call(main))
