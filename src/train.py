"""Train a model and track the run: ``python src/train.py [KEY=VALUE ...]``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace import cli, config
from foretrace.settings import TrainConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> dict[str, float]:
    """Checks the settings first: what trains takes seconds to import."""
    with cli.job_errors() if cfg.sweep.parent else cli.input_errors():
        # Those of a run to go on with or to repeat are in its record; alone, today's may not even fit together.
        started = cfg if cfg.resume or cfg.rerun else config.parse(cfg, TrainConfig)
        with cli.heavy_imports():
            from foretrace import optimization

            if isinstance(started, TrainConfig):
                optimization.check(**optimization.chosen(started))  # by torch alone: an error comes soon
            from foretrace import experiment

        return experiment.run(started, overrides=cli.overrides())


if __name__ == "__main__":
    sys.exit(cli.call(main))
