"""Say how recordings will be read: ``python src/describe.py data=files data.path=…``; see ``--help``."""

import sys

from foretrace.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("describe"))
