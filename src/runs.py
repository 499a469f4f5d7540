"""List runs, set right those whose process died, deliver what waits: ``python src/runs.py --help``."""

import argparse
import os
import sys
from typing import NoReturn

from foretrace.errors import InputError


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Raises an `InputError` where argparse would print how the command is used."""
        raise InputError("command line", expected="what --help lists", received=message)


def main() -> int:
    """Does what the command line asks for; returns the exit status."""
    try:
        return answer()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def answer() -> int:
    """Reads the command line and does what it asks for."""
    parser = Parser(description="List runs, or set them right.")
    parser.add_argument("-n", type=int, default=20, metavar="N", help="list the N latest runs (default: 20)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="instead of listing")
    mend = commands.add_parser("mend", help="mark runs of dead processes KILLED; mend a moved checkout")
    mend.add_argument(
        "runs", nargs="*", metavar="RUN", help="ids of runs that are dead for certain, on any host"
    )
    commands.add_parser("deliver", help="tell the tracking store what waits on this disk")
    asked = parser.parse_args()

    from foretrace.commands import runs

    if asked.command == "mend":
        return runs.mend(asked.runs)
    return runs.deliver() if asked.command == "deliver" else runs.show(asked.n)


if __name__ == "__main__":
    sys.exit(main())
