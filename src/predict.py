"""Forecast what follows recordings: ``python src/predict.py run=<id> data.path=… output=…``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace.commands import cli
from foretrace.config import PredictConfig, parse
from foretrace.workspace import Workspace


# Its settings lie beside it and not in conf/: there, Hydra would take model=<path> for a choice among conf/model.
@hydra.main(version_base="1.3", config_path=".", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Checks the settings first: what forecasts takes seconds to import."""
    with cli.input_errors():
        checked = parse.parse(cfg, PredictConfig)
        with cli.heavy_imports():
            from foretrace.commands import predict

        predict.run(checked, workspace=Workspace.default())


if __name__ == "__main__":
    sys.exit(cli.call(main))
