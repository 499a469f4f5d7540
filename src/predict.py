"""Forecast what follows recordings: ``python src/predict.py run=<id> data.path=… output=…``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace import cli, config
from foretrace.settings import PredictConfig


# In a folder of its own: beside the group conf/model, Hydra would take model=<path> for a choice of network.
@hydra.main(version_base="1.3", config_path="../conf/predict", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Checks the settings first: what forecasts takes seconds to import."""
    with cli.input_errors():
        checked = config.parse(cfg, PredictConfig)
        from foretrace import prediction

        prediction.run(checked)


if __name__ == "__main__":
    sys.exit(cli.call(main))
