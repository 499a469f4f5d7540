"""From the command line to a function and back: an error as one line, and the exit status.

Imports nothing heavy: ``--help`` and a wrong setting are answered at once.
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
from pathlib import Path
from types import FrameType

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foretrace.config.parse import from_hydra
from foretrace.errors import DivergedError, Interrupted, UserError, full_disk
from foretrace.tracking.redaction import redact
from foretrace.training.distributed import DistributedEnv
from foretrace.workspace import CONF, Workspace

OmegaConf.register_new_resolver("project_root", lambda: str(Workspace.default().root), replace=True)

FAILED, USAGE_ERROR, SIGINT_STATUS = 1, 2, 130  # exit statuses
MODES = ("multirun", "run", "cfg", "info", "help", "hydra_help")  # Hydra's options that say what it does


def call(main: Callable[[], object]) -> int:
    """Run a ``@hydra.main`` function as a command and return the exit status.

    What is wrong with the command line is said in one line, where Hydra would print several and exit with 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    os.environ["MPLBACKEND"] = "agg"  # whatever is set outside: figures go into files alone
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal's encoding may lack letters of features' names
        sys.stdout.reconfigure(errors="backslashreplace")
    # By default SIGTERM would end nothing in a container, whose process 1 we are, and tidy up nothing elsewhere.
    signal.signal(signal.SIGTERM, _stop)
    try:
        _check_command_line(sys.argv)
        main()
    except BaseException as error:
        if (answer := _answer(error)) is None:
            raise
        return _say(*answer)
    return 0


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
        return f"error: {from_hydra(error, conf=CONF)}", USAGE_ERROR
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


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import libraries without the garbage collector, and let it pass over them from then on.

    They make a million objects, none of them garbage; to look through them again and again took a quarter of
    the time to the first training step (5.1 s where it was 7.1 s of processor time).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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
