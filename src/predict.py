"""Forecast what follows recordings: ``python src/predict.py run=<id> data.path=… output=…``; see ``--help``."""

import sys

from foretrace.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("predict"))
