"""The Hydra applications behind ``src/*.py`` and the console command ``foretrace``.

Each checks its settings before it imports what trains, which takes seconds.
"""

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from foretrace.commands import cli
from foretrace.config import DescribeConfig, EvaluateConfig, ExportConfig, PredictConfig, TrainConfig
from foretrace.config.data import Settings
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.workspace import CONF, Workspace

RECORDED = ("train", "evaluate")  # commands whose runs record what was typed
RENAMED = {"mend": "recover", "deliver": "sync"}


def _app(name: str, kind: type[Settings], folder: Path = CONF) -> Callable[[], Any]:
    """Return the application of a command: its settings in the folder checked, then the module of its name run."""

    @hydra.main(version_base="1.3", config_path=str(folder), config_name=name)
    def run(cfg: DictConfig) -> Any:
        with cli.input_errors():
            # The settings of a run to resume or repeat are in its record; alone, today's may not even fit together.
            is_recorded = any(cfg.get(key) is not None for key in ("resume", "rerun"))
            config = cfg if is_recorded else parse(cfg, kind)
            with cli.heavy_imports():
                if isinstance(config, TrainConfig):  # by torch alone: a wrong name is answered soon
                    optimizers: Any = import_module("foretrace.training.optimizers")
                    optimizers.check_optimizer(config)
                command: Any = import_module(f"foretrace.commands.{name}")
            typed = {"overrides": list(HydraConfig.get().overrides.task)} if name in RECORDED else {}
            return command.run(config, **typed, workspace=Workspace.default())

    return cast("Callable[[], Any]", run)


APPS = {
    "describe": _app("describe", DescribeConfig),
    "train": _app("train", TrainConfig),
    "evaluate": _app("evaluate", EvaluateConfig),
    # Its settings lie beside this file: in conf/, Hydra would take model=<path> for a choice of conf/model.
    "predict": _app("predict", PredictConfig, Path(__file__).parent),
    "export": _app("export", ExportConfig),
}


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` where argparse would print how the command is used."""
        raise UserError(f"command line: {message}", hint="See --help.")


def list_runs() -> int:
    """Do what the command line of ``runs`` asks for; return the exit status."""
    parser = Parser(description="List runs, or set them right.")
    parser.add_argument("-n", type=int, default=20, metavar="N", help="list the N latest runs (default: 20)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="instead of listing")
    recover = commands.add_parser("recover", help="mark runs of dead processes KILLED")
    named = "ids of runs that are dead for certain, on any host"
    recover.add_argument("runs", nargs="*", metavar="RUN", help=named)
    commands.add_parser("sync", help="send the tracking store what waits on this disk")
    ui = commands.add_parser("ui", help="serve MLflow's pages, and open them at the table of runs")
    ui.add_argument("--port", type=int, default=5000, help="where they are served (default: 5000)")
    try:
        for old in RENAMED.keys() & sys.argv[1:2]:
            raise UserError(f"command line: {old} is called {RENAMED[old]} now")
        asked = parser.parse_args()
        from foretrace.commands import runs
        from foretrace.training.log_filters import filter_library_logs

        filter_library_logs()
        workspace = Workspace.default()
        if asked.command == "recover":
            return runs.recover(asked.runs, workspace=workspace)
        if asked.command == "sync":
            return runs.sync(workspace=workspace)
        if asked.command == "ui":
            return runs.ui(workspace=workspace, port=asked.port)
        return runs.show(asked.n, workspace=workspace)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return cli.USAGE_ERROR
    except KeyboardInterrupt:  # how `ui` is ended
        return cli.SIGINT_STATUS
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def main(name: str | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        name: The command; None to take it from the command line, ``foretrace <name> …``.
    """
    if name is None:
        commands = [*APPS, "runs", "ui"]
        if "-sc" in sys.argv[1:2] and "query=bash" in sys.argv:  # what follows the line that is typed so far
            _, _, typed = os.environ.get("COMP_LINE", "").partition(" ")
            command, space, rest = typed.lstrip().partition(" ")
            if not space:
                print(*commands)
                return 0
            os.environ["COMP_LINE"], sys.argv[1:1] = f"foretrace {rest}", [command]
        if len(sys.argv) < 2 or sys.argv[1] not in commands:
            print(f"usage: foretrace {{{','.join(commands)}}} …  (foretrace train --help)", file=sys.stderr)
            return cli.USAGE_ERROR
        name = sys.argv.pop(1)
        sys.argv[0] = f"{sys.argv[0]} {name}"
    if name == "ui":
        name = "runs"
        sys.argv.insert(1, "ui")
    return list_runs() if name == "runs" else cli.call(APPS[name])
