"""The application behind ``src/runs.py`` and ``foretrace runs``; imports nothing heavy before it has to."""

import argparse
import os
import sys
from typing import NoReturn

from foretrace.errors import UserError

RENAMED = {"mend": "recover", "deliver": "sync"}


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` where argparse would print how the command is used."""
        raise UserError(f"command line: {message}", hint="See --help.")


def main() -> int:
    """Do what the command line asks for; return the exit status."""
    parser = Parser(description="List runs, or set them right.")
    parser.add_argument("-n", type=int, default=20, metavar="N", help="list the N latest runs (default: 20)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="instead of listing")
    recover = commands.add_parser("recover", help="mark runs of dead processes KILLED")
    recover.add_argument(
        "runs", nargs="*", metavar="RUN", help="ids of runs that are dead for certain, on any host"
    )
    commands.add_parser("sync", help="send the tracking store what waits on this disk")
    try:
        for old in RENAMED.keys() & sys.argv[1:2]:
            raise UserError(f"command line: {old} is called {RENAMED[old]} now")
        asked = parser.parse_args()

        from foretrace.commands import runs
        from foretrace.workspace import Workspace

        workspace = Workspace.default()
        if asked.command == "recover":
            return runs.recover(asked.runs, workspace=workspace)
        return (
            runs.sync(workspace=workspace)
            if asked.command == "sync"
            else runs.show(asked.n, workspace=workspace)
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
