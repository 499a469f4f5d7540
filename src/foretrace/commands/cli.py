"""From the command line to a command and back: what was typed, an error as one line, and the exit status.

Imports nothing heavy: ``--help`` and a wrong setting are answered at once, and only then what trains is imported.
"""

import argparse
import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foretrace.config import DescribeConfig, EvaluateConfig, ExportConfig, PredictConfig, TrainConfig
from foretrace.config.data import Settings
from foretrace.config.parse import from_hydra, parse
from foretrace.errors import DivergedError, Interrupted, UserError, full_disk
from foretrace.tracking.redaction import redact
from foretrace.training.distributed import DistributedEnv
from foretrace.workspace import CONF, Workspace

OmegaConf.register_new_resolver("project_root", lambda: str(Workspace.default().root), replace=True)

FAILED, USAGE_ERROR, SIGINT_STATUS = 1, 2, 130  # exit statuses
MODES = ("multirun", "run", "cfg", "info", "help", "hydra_help")  # Hydra's options that say what it does
COMMANDS: dict[str, type[Settings]] = {
    "describe": DescribeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
}
RECORDED = ("train", "evaluate")  # commands whose runs record what was typed
RENAMED = {"mend": "recover", "deliver": "sync"}


def main(name: str | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        name: The command; None to take it from the command line, ``foretrace <name> …``.
    """
    if name is None:
        names = [*COMMANDS, "runs", "ui"]
        if "-sc" in sys.argv[1:2] and "query=bash" in sys.argv:  # what follows the line that is typed so far
            _, _, typed = os.environ.get("COMP_LINE", "").partition(" ")
            command, space, rest = typed.lstrip().partition(" ")
            if not space:
                print(*names)
                return 0
            os.environ["COMP_LINE"], sys.argv[1:1] = f"foretrace {rest}", [command]
        if len(sys.argv) < 2 or sys.argv[1] not in names:
            print(f"usage: foretrace {{{','.join(names)}}} …  (foretrace train --help)", file=sys.stderr)
            return USAGE_ERROR
        if sys.argv[1] == "ui":
            sys.argv.insert(1, "runs")
        name = sys.argv.pop(1)
        sys.argv[0] = f"{sys.argv[0]} {name}"
    return call(list_runs, is_hydra=False) if name == "runs" else call(_app(name))


def _app(name: str) -> Callable[[], Any]:
    """Return the Hydra application of a command: its settings checked, then the module of its name run."""
    # Those of `predict` lie beside this file: in conf/, Hydra would take model=<path> for a choice of conf/model.
    folder = Path(__file__).parent if name == "predict" else CONF

    @hydra.main(version_base="1.3", config_path=str(folder), config_name=name)
    def run(cfg: DictConfig) -> Any:
        with input_errors():
            # The settings of a run to resume or repeat are in its record; alone, today's may not even fit together.
            is_recorded = any(cfg.get(key) is not None for key in ("resume", "rerun"))
            config = cfg if is_recorded else parse(cfg, COMMANDS[name])
            # Libraries make a million objects, none of them garbage; to look through them again and again took a
            # quarter of the time to the first training step (5.1 s where it was 7.1 s of processor time).
            gc.disable()
            try:
                if isinstance(config, TrainConfig):  # by torch alone: a wrong name is answered soon
                    optimizers: Any = import_module("foretrace.training.optimizers")
                    optimizers.check_optimizer(config)
                command: Any = import_module(f"foretrace.commands.{name}")
            finally:
                gc.freeze()
                gc.enable()
            typed = {"overrides": list(HydraConfig.get().overrides.task)} if name in RECORDED else {}
            return command.run(config, **typed, workspace=Workspace.default())

    return cast("Callable[[], Any]", run)


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
    for old in RENAMED.keys() & sys.argv[1:2]:
        raise UserError(f"command line: {old} is called {RENAMED[old]} now")
    asked = parser.parse_args()
    from foretrace.commands import runs
    from foretrace.training.log_filters import filter_library_logs

    filter_library_logs()
    workspace = Workspace.default()
    try:
        if asked.command == "recover":
            return runs.recover(asked.runs, workspace=workspace)
        if asked.command == "sync":
            return runs.sync(workspace=workspace)
        if asked.command == "ui":
            return runs.ui(workspace=workspace, port=asked.port)
        return runs.show(asked.n, workspace=workspace)
    except KeyboardInterrupt:  # how `ui` is ended
        return SIGINT_STATUS
    except BrokenPipeError:  # `| head` has read enough
        _drop_output()
        return 0


def call(main: Callable[[], int | None], *, is_hydra: bool = True) -> int:
    """Run a function as a command and return the exit status: the function's own, if it has one.

    What is wrong is said in one line, where Hydra would print several and exit with 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    os.environ["MPLBACKEND"] = "agg"  # whatever is set outside: figures go into files alone
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal's encoding may lack letters of features' names
        sys.stdout.reconfigure(errors="backslashreplace")
    # By default SIGTERM would end nothing in a container, whose process 1 we are, and tidy up nothing elsewhere.
    signal.signal(signal.SIGTERM, _stop)
    try:
        if is_hydra:
            _check_command_line(sys.argv)
        return main() or 0
    except BaseException as error:
        if (answer := _answer(error)) is None:
            raise
        return _say(*answer)


@contextmanager
def input_errors() -> Iterator[None]:
    """End the process with one line where the user's input is at fault, training diverged, or the disk is full.

    Within the job, because Hydra prints a line of its own about any exception that leaves it, with every override and
    the passwords in them.
    """
    try:
        yield
    except Exception as error:
        sys.exit(_say(*(_answer(error) or (traceback.format_exc(), FAILED))))


def _answer(error: BaseException) -> tuple[str, int] | None:
    """Return what is said of an error, and the exit status; None if it is unexpected, or was said already."""
    if isinstance(error, SystemExit):
        return None
    if isinstance(error, UserError):
        return f"error: {error}", USAGE_ERROR
    if isinstance(error, DivergedError | ChildProcessError):
        return f"error: {error}", FAILED
    if isinstance(error, Exception) and _is_from_hydra(error):
        return f"error: {from_hydra(error)}", USAGE_ERROR
    if isinstance(error, Interrupted | KeyboardInterrupt):
        number = error.exit_status if isinstance(error, Interrupted) else SIGINT_STATUS
        return f"stopped by {error if isinstance(error, Interrupted) else 'SIGINT'}", number
    if isinstance(error, BrokenPipeError):
        _drop_output()
        return "error: nobody reads the output any more. `> file` keeps it without a reader.", FAILED
    if full := full_disk(error):
        _drop_output()  # it may be what found no room
        # The outermost says what could not be written; how to resume was said when the run ended.
        what = error if isinstance(error, OSError) else full
        where = f" ({what.filename})" if what.filename else ""
        hint = "Free some space; then continue from the last checkpoint with resume=<id>, or start again."
        return f"error: {what.strerror}{where}. {hint}", FAILED
    return None


def _check_command_line(arguments: list[str]) -> None:
    """Refuse in one line what Hydra would answer with its usage, and complete what it expects."""
    try:
        own = Path.cwd() / "conf"  # relative paths start in the working directory, also Hydra's own
    except OSError as error:
        raise UserError("the working directory is gone", hint="Change to another one.") from error
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        options, further = parser.parse_known_args(arguments[1:])
    except argparse.ArgumentError as error:
        what = error.argument_name or "command line"
        raise UserError(f"{what}: {error.message}", hint="See --help.") from error
    if further:
        dashed = further[0].startswith("-")
        hint = "Settings have no dashes: KEY=VALUE." if dashed else "Put all options before the settings."
        raise UserError(f"{further[0]}: unknown option", hint=hint)
    if options.experimental_rerun is not None:  # a pickle, which could run anything
        raise UserError("--experimental-rerun: not supported", hint="Use rerun=<id>.")
    if not any(getattr(options, mode) for mode in MODES):
        options.multirun = any(word.startswith("sweep.resume=") for word in options.overrides)
        arguments[1:1] = ["-m"] * options.multirun  # to resume a sweep is to sweep
    size = DistributedEnv.from_environ().world_size
    if size > 1 and options.multirun:
        hint = "Start the sweep by itself: its jobs begin their own processes with trainer.devices=…"
        raise UserError(f"-m: a sweep is one process, and here are {size}", hint=hint)
    if own.is_dir() and own.resolve() != CONF and options.config_dir is None:
        arguments[1:1] = ["--config-dir", str(own)]  # one's own options beside the built-in ones


def _is_from_hydra(error: Exception) -> bool:
    """Tell whether an error is Hydra's: also a bare ValueError, as of some wrong overrides (``scheduler=3``)."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals["__name__"] if trace else ""
    is_bare = isinstance(error, ValueError) and where.startswith(("hydra.", "omegaconf."))
    return is_bare or isinstance(error, HydraException | OmegaConfBaseException)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _drop_output() -> None:
    """Leave nothing for the end of the process to write, where it would fail again."""
    with suppress(io.UnsupportedOperation):  # no file of the system's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str, status: int) -> int:
    try:
        speaks = DistributedEnv.from_environ().rank == 0  # all processes of a group find the same
    except UserError:  # which is what it has to say
        speaks = True
    if speaks:
        print(redact(text), file=sys.stderr, flush=True)
    return status
