"""The Hydra applications behind ``src/*.py`` and the console command ``foretrace``.

Each checks its settings before it imports what trains, which takes seconds.
"""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from foretrace.commands import cli, runs_app
from foretrace.config import DescribeConfig, EvaluateConfig, ExportConfig, PredictConfig, TrainConfig
from foretrace.config.parse import parse
from foretrace.workspace import CONF, Workspace


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train(cfg: DictConfig) -> dict[str, float]:
    """Train a model and track the run."""
    with cli.input_errors():
        # The settings of a run to resume or repeat are in its record; alone, today's may not even fit together.
        config = cfg if cfg.resume or cfg.rerun else parse(cfg, TrainConfig)
        with cli.heavy_imports():
            from foretrace.training import optimizers

            if isinstance(config, TrainConfig):  # by torch alone: a wrong name is answered soon
                optimizers.check_optimizer(config)
            from foretrace.commands import train

        return train.run(config, overrides=cli.overrides(), workspace=Workspace.default())


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Evaluate a trained model without training, or compare two."""
    with cli.input_errors():
        config = parse(cfg, EvaluateConfig)
        with cli.heavy_imports():
            from foretrace.commands import evaluate

        return evaluate.run(config, overrides=cli.overrides(), workspace=Workspace.default())


# Its settings lie beside this file and not in conf/: there, Hydra would take model=<path> for a choice of conf/model.
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="predict")
def predict(cfg: DictConfig) -> None:
    """Forecast what follows recordings."""
    with cli.input_errors():
        config = parse(cfg, PredictConfig)
        with cli.heavy_imports():
            from foretrace.commands import predict

        predict.run(config, workspace=Workspace.default())


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="export")
def export(cfg: DictConfig) -> None:
    """Write a trained model in another form, or register it."""
    with cli.input_errors():
        config = parse(cfg, ExportConfig)
        with cli.heavy_imports():
            from foretrace.commands import export

        export.run(config, workspace=Workspace.default())


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="describe")
def describe(cfg: DictConfig) -> None:
    """Say how recordings will be read."""
    with cli.input_errors():
        config = parse(cfg, DescribeConfig)
        with cli.heavy_imports():
            from foretrace.commands import describe

        describe.run(config, workspace=Workspace.default())


APPS: dict[str, Any] = {
    "describe": describe,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
}


def main(name: str | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        name: The command; None to take it from the command line, ``foretrace <name> …``.
    """
    if name is None:
        commands = [*APPS, "runs"]
        if len(sys.argv) < 2 or sys.argv[1] not in commands:
            print(f"usage: foretrace {{{','.join(commands)}}} …  (foretrace train --help)", file=sys.stderr)
            return cli.USAGE_ERROR
        name = sys.argv.pop(1)
        sys.argv[0] = f"{sys.argv[0]} {name}"
    return runs_app.main() if name == "runs" else cli.call(APPS[name])
