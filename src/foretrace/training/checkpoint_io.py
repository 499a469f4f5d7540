"""Checkpoints on disk: read if they are whole, without running anything that they hold, the last or the best."""

import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foretrace.errors import UserError

FORMAT = 2  # of our checkpoints; to be raised when older ones cannot be resumed any more
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
HINT = "See checkpoints/ among a run's artifacts."
PARTS = {"hyper_parameters": dict, "state_dict": dict, "global_step": int, "epoch": int}
# What torch's reader comes to in files that are cut, of something else, or tampered with.
BROKEN = (
    *(OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError),
    *(AssertionError, AttributeError, LookupError, OverflowError, TypeError, struct.error),
)


class DamagedError(UserError):
    """A checkpoint that cannot be read, or is none."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, as this version writes them.

    Raises:
        DamagedError: If it is something else, damaged, or holds more than arrays, numbers and text.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch looks at neither: it loads weights with flipped bits, and unpacks a kilobyte into gigabytes.
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed, or its parts overlap")
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} differs from its checksum")
            pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
            if any(b"bytearray" in archive.read(name) for name in pickles):
                raise ValueError("it holds a bytearray")  # of any size: torch would make it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that it then refuses
            checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # its message says how to run foreign code: no help here
        raise DamagedError(f"{path}: holds more than plain data", hint=HINT) from error
    except BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"{path}: no checkpoint that can be read ({reason})", hint=HINT) from error
    for key, kind in PARTS.items():
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), kind):
            raise DamagedError(f"{path}: no checkpoint of a training run, as it has no {key}", hint=HINT)
    return upgrade_checkpoint(checkpoint)


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint of version 0.1.0 with the names that this version uses; others stay as they are."""
    for key in ("state_dict", "current_model_state"):  # the second beside averaged weights
        if isinstance(tensors := checkpoint.get(key), dict):
            checkpoint[key] = upgrade_names(tensors)
    settings = checkpoint["hyper_parameters"]
    if isinstance(features := settings.get("features"), dict) and "known" in features:
        features["covariates"] = features.pop("known")
    if isinstance(loss := settings.get("loss"), dict):
        settings["loss"] = {"kind": "mse", "huber_delta": 1.0} | loss
    return checkpoint


def upgrade_names(weights: Mapping[Any, Any]) -> dict[str, Any]:
    """Return weights under today's names; version 0.1.0 called covariates known inputs."""
    return {str(name).replace("known_scaling.", "covariate_scaling."): it for name, it in weights.items()}


def load_best(module: nn.Module, folder: Path) -> tuple[int, float | None]:
    """Give a module the best weights; return their epoch, from 0, and their score.

    Before the first validation, the best are the last, and have no score.
    """
    path = folder / BEST
    checkpoint = read_checkpoint(path if path.exists() else folder / LAST)
    module.load_state_dict(checkpoint["state_dict"])
    return int(checkpoint["epoch"]), checkpoint["callbacks"]["Checkpoints"]["best_score"]


def latest_valid_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last checkpoint that can be resumed, renamed to be the last, and its content; None if there is none.

    What is damaged is printed.

    Raises:
        UserError: If all are damaged, or another version has to resume from it.
    """
    reasons = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except DamagedError as error:
            reasons.append(error.message)
            print(f"{error.message}; trying the one before")
            continue
        written = checkpoint.get("foretrace")
        if not isinstance(written, dict):
            written = {"format": 1, "version": "0.1.0 before its first release"}
        if written.get("format") != FORMAT:
            message = f"{path}: format {written.get('format')}, and this version resumes format {FORMAT}"
            raise UserError(message, hint=f"foretrace {written.get('version')} can resume it.")
        return path.replace(folder / LAST), checkpoint
    if not reasons:
        return None
    raise UserError(f"no checkpoint is whole: {'; '.join(reasons)}", hint="Train anew: rerun=<id>.")


def has_stopped_early(checkpoint: dict[str, Any], *, patience: int) -> bool:
    """Return whether a run that is resumed from a checkpoint with this patience would stop at once."""
    # Lightning's key of its state begins with the callback's name.
    states = [state for key, state in checkpoint["callbacks"].items() if str(key).startswith("EarlyStopping")]
    return any(state["wait_count"] >= patience for state in states)
