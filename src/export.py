"""Write a trained model in another form: ``python src/export.py run=<id> format=onnx``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace import cli, config
from foretrace.settings import ExportConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    """Checks the settings first: what exports takes seconds to import."""
    with cli.input_errors():
        checked = config.parse(cfg, ExportConfig)
        with cli.heavy_imports():
            from foretrace import export

        export.run(checked)


if __name__ == "__main__":
    sys.exit(cli.call(main))
