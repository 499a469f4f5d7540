"""Judge a trained model without training: ``python src/evaluate.py run=<id>``; see ``--help``."""

import sys

from foretrace.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("evaluate"))
