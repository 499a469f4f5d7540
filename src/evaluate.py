"""Judge a trained model without training: ``python src/evaluate.py run=<id>``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace.commands import cli
from foretrace.config import EvaluateConfig, parse
from foretrace.workspace import Workspace


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> dict[str, float]:
    """Checks the settings first: what evaluates takes seconds to import."""
    with cli.input_errors():
        checked = parse.parse(cfg, EvaluateConfig)
        with cli.heavy_imports():
            from foretrace.commands import evaluate

        return evaluate.run(checked, overrides=cli.overrides(), workspace=Workspace.default())


if __name__ == "__main__":
    sys.exit(cli.call(main))
