"""Checkpoints, read only if they are whole, and without running anything that they hold."""

import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foretrace.errors import InputError

A_CHECKPOINT = "a checkpoint of a training run"
LARGEST_PICKLE = 1 << 24  # bytes; ours have 9000
# What a checkpoint's pickle may name: arrays and containers. torch's own list has more, as a `bytearray` of any size.
PLAIN = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)|torch \w+Storage|torch._utils _rebuild_tensor_v2"
)
NAMES = {
    "GLOBAL",
    "STACK_GLOBAL",
    "INST",
    "EXT1",
    "EXT2",
    "EXT4",
}  # opcodes by which a pickle names something
# What torch comes to in a pickle that was tampered with.
TAMPERED = (AssertionError, AttributeError, LookupError, OverflowError, TypeError, struct.error)
PARTS = {"hyper_parameters": dict, "state_dict": dict, "global_step": int, "epoch": int}


class DamagedError(InputError):
    """A checkpoint that cannot be read, or is none."""


def read_checkpoint(path: Path, *, map_location: str = "cpu") -> dict[str, Any]:
    """Reads a checkpoint that Lightning wrote.

    Checksums are compared first: torch itself does not look at them, and loads weights with flipped bits.

    Args:
        path: Of the file.
        map_location: Where tensors come to be; ``meta`` gives their shapes alone.

    Raises:
        DamagedError: If it is something else, damaged, or holds more than arrays, numbers and text.
    """
    try:
        _check(path)
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location=map_location)
    except pickle.UnpicklingError as error:  # its message says how to run foreign code: no help here
        raise _refused(path, "something else, or more than plain data") from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError) as error:
        raise _refused(path, (str(error).splitlines() or [type(error).__name__])[0]) from error
    except TAMPERED as error:
        raise _refused(path, f"a content that makes no sense ({type(error).__name__}: {error})") from error
    if not isinstance(checkpoint, dict):
        raise _refused(path, f"{type(checkpoint).__name__}")
    return checkpoint


def check_parts(path: Path, checkpoint: dict[str, Any]) -> None:
    """Sees whether a checkpoint has what all of this version have.

    Raises:
        DamagedError: If not.
    """
    for key, kind in PARTS.items():
        if not isinstance(checkpoint.get(key), kind):
            raise _refused(path, f"one without {key}")


def check_weights(tensors: Mapping[str, Any], *, hidden_sizes: list[int], num_features: int) -> None:
    """Sees whether tensors can be a model's before it is made: what they do not hold would take memory first.

    Raises:
        ValueError: If not.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            kind = f"{tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{name} is {kind}, not an array of float32")
    if len(hidden_sizes) > len(tensors):
        raise ValueError(f"{len(tensors)} arrays for {len(hidden_sizes)} layers")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {
        f"stack.lstm.{depth}.weight_hh_l0": (4 * size, size) for depth, size in enumerate(hidden_sizes)
    }
    for name, shape in {**expected, "change": (num_features,)}.items():
        if shapes.get(name) != shape:
            raise ValueError(f"{name} has shape {shapes.get(name)}, not {shape}")
    if wrong := [
        name for name, tensor in tensors.items() if not tensor.is_meta and not tensor.isfinite().all()
    ]:
        raise ValueError(f"{wrong[0]} has values that are not finite")


def _check(path: Path) -> None:
    """Compares checksums and looks through the pickle.

    Raises:
        ValueError: If something is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("a compressed archive, or one whose parts overlap")
        if (damaged := archive.testzip()) is not None:  # reads all of it
            raise ValueError(f"{damaged} differs from its checksum")
        pickles = [member for member in members if member.filename.endswith(".pkl")]  # TorchScript has more
        if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
            raise ValueError("no checkpoint in it")
        for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if opcode.name in NAMES and not (isinstance(argument, str) and PLAIN.fullmatch(argument)):
                raise ValueError(f"more than plain data: {argument}")
            if opcode.name == "PROTO" and argument != torch.serialization.DEFAULT_PROTOCOL:
                raise ValueError(f"pickle protocol {argument}")  # of which torch would warn


def _refused(path: Path, received: str) -> DamagedError:
    remedy = "See checkpoints/ among a run's artifacts."
    return DamagedError(str(path), expected=A_CHECKPOINT, received=received, remedy=remedy)
