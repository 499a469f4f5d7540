"""List runs, recover those whose process died, send what waits on disk: ``python src/runs.py --help``."""

import sys

from foretrace.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("runs"))
