"""Judge a trained model without training: ``python src/evaluate.py run=<id>``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace import cli, config
from foretrace.settings import EvaluateConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> dict[str, float]:
    """Checks the settings first: what evaluates takes seconds to import."""
    with cli.input_errors():
        checked = config.parse(cfg, EvaluateConfig)
        with cli.heavy_imports():
            from foretrace import judgement

        return judgement.run(checked, overrides=cli.overrides())


if __name__ == "__main__":
    sys.exit(cli.call(main))
