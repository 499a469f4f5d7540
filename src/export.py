"""Write a trained model in another form: ``python src/export.py run=<id> format=onnx``; see ``--help``."""

import sys

import hydra
from omegaconf import DictConfig

from foretrace.commands import cli
from foretrace.config import ExportConfig, parse
from foretrace.workspace import Workspace


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    """Checks the settings first: what exports takes seconds to import."""
    with cli.input_errors():
        checked = parse.parse(cfg, ExportConfig)
        with cli.heavy_imports():
            from foretrace.commands import export

        export.run(checked, workspace=Workspace.default())


if __name__ == "__main__":
    sys.exit(cli.call(main))
