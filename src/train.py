"""Train a model and track the run: ``python src/train.py [KEY=VALUE ...]``; see ``--help``."""

import sys

from foretrace.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("train"))
