"""From the command line to a function and back: errors as one line, and the exit status.

Imports nothing heavy: ``--help`` and a wrong setting are answered at once.
"""

import argparse
import gc
import io
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from foretrace.config.parse import known_keys
from foretrace.errors import DivergedError, InputError, Interrupted, full_disk, sanitize, suggest
from foretrace.tracking.redaction import redact
from foretrace.training.place import Place
from foretrace.workspace import CHECKOUT, Workspace

# Here and not in `call`, as a launcher's processes need it without ever coming there.
OmegaConf.register_new_resolver("project_root", lambda: str(Workspace.default().root), replace=True)

USAGE_ERROR = 2  # exit status of a command that was asked for something it cannot do
FAILED = 1
SIGINT_STATUS = 130
MODES = ("-m", "--multirun", "-r", "--run", "-c", "--cfg", "-i", "--info", "-h", "--help", "--hydra-help")


class JobFailedError(Exception):
    """A job of a sweep failed, and said so. Nothing but text, as it travels between processes."""


def call(main: Callable[[], None]) -> int:
    """Runs a ``@hydra.main`` function as a command; returns the exit status.

    What is wrong with the command line is said in one line, where Hydra would print several and exit with 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # names of features may hold what a terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ["MPLBACKEND"] = "agg"  # whatever is set outside: pictures go into files alone
    # By default it would end nothing in a container, whose process 1 we are, and tidy up nothing elsewhere.
    signal.signal(signal.SIGTERM, _stop)
    _make_multirun(sys.argv)
    try:
        _check_folder()
        _check_options(sys.argv[1:])
        _refuse_many_sweeps(sys.argv)
        main()
    except InputError as error:
        return _say(f"error: {error}", USAGE_ERROR)
    except (HydraException, OmegaConfBaseException) as error:
        return _say(one_line(error), USAGE_ERROR)
    except ValueError as error:
        if not _is_from_hydra(error):
            raise
        return _say(one_line(error), USAGE_ERROR)
    except Interrupted as interruption:
        return _say(f"stopped by {interruption}", interruption.exit_status)
    except KeyboardInterrupt:
        return _say("stopped by SIGINT", SIGINT_STATUS)
    except BrokenPipeError:
        return _unheard()
    return 0


@contextmanager
def input_errors() -> Iterator[None]:
    """Ends the process with one line where the user's input is at fault, training diverged, or the disk is full.

    Within the job, because Hydra prints a line of its own about any exception that leaves it.
    """
    try:
        yield
    except InputError as error:
        sys.exit(_say(f"error: {error}", USAGE_ERROR))
    except DivergedError as error:
        sys.exit(_say(f"error: {error}", FAILED))
    except BrokenPipeError:
        sys.exit(_unheard())
    except Exception as error:
        full = full_disk(error)
        if full is None:  # not raised: Hydra would print every override, and the passwords in them
            sys.exit(_say(traceback.format_exc(), FAILED))
        _drop_output()  # it may be what found no room
        # The outermost says what could not be written; what a run has to go on with was said when it ended.
        what = error if isinstance(error, OSError) else full
        place = f" ({what.filename})" if what.filename else ""
        remedy = "Free some space; then go on from the last checkpoint with resume=<id>, or start again."
        sys.exit(_say(f"error: {what.strerror}{place}. {remedy}", FAILED))


@contextmanager
def job_errors() -> Iterator[None]:
    """Says at once, in one line, that a job of a sweep failed; the others go on.

    Raises:
        JobFailedError: By which Hydra counts the job as failed.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        raise JobFailedError("the sweep has ended")  # killed, so that joblib's workers still take jobs on
    # With some launchers another script is the main one; the record is to name the command that people type.
    sys.argv[0] = str(CHECKOUT / "src" / f"{HydraConfig.get().job.name}.py")
    try:
        yield
    except (InputError, DivergedError) as error:
        raise _failed(str(error)) from None
    except Exception as error:  # whatever it is, it is this job's alone
        _say(traceback.format_exc(), FAILED)
        raise _failed(f"{type(error).__name__}: {sanitize(str(error))}") from None


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Imports libraries without the garbage collector, and lets it pass over them from then on.

    They make a million objects, of which none is garbage; to look through them again and again took a quarter of
    the time to the first training step (5.1 s where it was 7.1 s, of the processor's).
    """
    if gc.get_freeze_count():  # they are there: this is a later job of a sweep
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def overrides() -> list[str]:
    """What the user asked for beside the defaults, for this one job."""
    return list(HydraConfig.get().overrides.task)


def one_line(error: Exception) -> str:
    """Says in one line what Hydra found wrong with the command line, and what would be right."""
    return f"error: {_in_our_words(error) or sanitize(str(error), longest=600)}"


def _in_our_words(error: Exception) -> InputError | None:
    cause, arguments = error.__cause__, " ".join(sys.argv[1:])
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return InputError(group, expected="an option that exists", received=option or "none",
                          remedy=suggest(option, error.options))  # fmt: skip
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        key, covariates = str(cause.full_key), known_keys()
        group = key.partition(".")[0]
        if key == group and (
            options := sorted(f"{key}={o.stem}" for o in CHECKOUT.glob(f"conf/{key}/*.yaml"))
        ):
            remedy = f"Write one before them: {', '.join(options)}."
            return InputError(
                key, expected="a choice that its settings belong to", received="none", remedy=remedy
            )
        remedy = (
            f"It belongs to another choice of {group}=…." if key in covariates else suggest(key, covariates)
        )
        return InputError(key, expected="a setting that exists", received=key, remedy=remedy)
    if isinstance(error, OverrideParseException):
        remedy = "Quote a value that has special characters, twice: 'tracking.run_name=\"a, b\"'."
        return InputError("command line", expected="KEY=VALUE", received=repr(error.override), remedy=remedy)
    if isinstance(error, ValueError):  # `model=5`; Hydra does not say which
        expected = "the name of an option after each GROUP="
        return InputError("command line", expected=expected, received=arguments, remedy="See --help.")
    if cause is not None and str(error).startswith("Error merging override"):
        reason = f"{error} ({str(cause).partition(chr(10))[0]})"
        return InputError(
            "command line", expected="values of the kind that each setting has", received=reason
        )
    return None


def _check_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:  # relative paths start there, also Hydra's own
        expected = "a working directory"
        raise InputError("command line", expected=expected, received="one that is gone") from error


def _check_options(arguments: list[str]) -> None:
    """Says in one line what is wrong with options: Hydra would print how it is used."""
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        options, further = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        where = error.argument_name or "command line"
        raise InputError(where, expected="an option as --help lists it", received=error.message) from error
    if further:
        dashed = further[0].startswith("-")
        remedy = "Settings have no dashes: KEY=VALUE." if dashed else "Put all options before the settings."
        raise InputError("command line", expected="what --help lists", received=further[0], remedy=remedy)
    if options.experimental_rerun is not None:  # a pickle, which could run anything
        option = "--experimental-rerun"
        raise InputError("command line", expected="rerun=<id>", received=option)


def _failed(reason: str) -> JobFailedError:
    job = " ".join(one for one in overrides() if not one.startswith("sweep."))
    _say(f"failed   {job}: {reason}", FAILED)
    return JobFailedError(redact(reason))


def _make_multirun(arguments: list[str]) -> None:
    """To go on with a sweep is to sweep, whether or not ``-m`` was typed."""
    asked = any(argument.startswith("sweep.resume=") for argument in arguments[1:])
    mode = any(argument.partition("=")[0] in MODES for argument in arguments[1:])
    if asked and not mode:
        arguments.insert(1, "-m")


def _refuse_many_sweeps(arguments: list[str]) -> None:
    """A sweep is one process, whose jobs may be several each."""
    if Place.here().size > 1 and any(argument in ("-m", "--multirun") for argument in arguments[1:]):
        remedy = "Start the sweep by itself: its jobs begin their own with trainer.devices=…"
        raise InputError("-m", expected="one process", received=f"{Place.here().size}", remedy=remedy)


def _is_from_hydra(error: Exception) -> bool:
    """Some wrong overrides (``scheduler=3``) make Hydra raise a bare ValueError."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith(("hydra.", "omegaconf."))


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _speaks() -> bool:
    """Whether this is the first of a group, all of which find the same."""
    try:
        return Place.here().rank == 0
    except InputError:  # which is what it has to say
        return True


def _unheard() -> int:
    _drop_output()
    return _say("error: nobody reads the output any more. `> file` keeps it without a reader.", FAILED)


def _drop_output() -> None:
    """Leaves nothing for the end of the process to write, where it would fail again."""
    with suppress(io.UnsupportedOperation):  # no file of the system's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str, status: int) -> int:
    if _speaks():
        print(redact(text), file=sys.stderr, flush=True)
    return status
