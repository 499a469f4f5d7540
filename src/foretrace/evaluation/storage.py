"""Evaluations as files, so that runs can be compared long after.

A file holds arrays and a text in JSON, nothing that is executed when read (``allow_pickle=False``).
"""

import dataclasses
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from foretrace.errors import UserError
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.evaluation.result import EvaluationResult

EVALUATION = "evaluation.npz"
FORMAT = 2
LARGEST = 1 << 32  # bytes that a file is unpacked to; it may be a thousandth of that
# Of an archive, of its arrays' headers, of its text.
BROKEN = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, RecursionError, MemoryError,
    SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)  # fmt: skip
ARRAY = "<array>"  # stands in the text for the array of that place's name


class _Content(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")  # of the dataclasses within, too

    format: int
    result: EvaluationResult


def save_evaluation(result: EvaluationResult, path: Path) -> None:
    """Write an evaluation to an ``.npz`` file."""
    arrays: dict[str, Any] = {}

    def take_arrays(value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {key: take_arrays(inner, f"{place}/{key}") for key, inner in value.items()}
        if isinstance(value, np.ndarray):
            arrays[place] = value
            return ARRAY
        return value

    content = {"format": FORMAT, "result": take_arrays(dataclasses.asdict(result), "result")}
    with path.open("wb") as file:  # given a name, NumPy would append a suffix to it
        np.savez_compressed(file, content=np.array(json.dumps(content)), **arrays)


def load_evaluation(path: Path) -> EvaluationResult:
    """Read what `save_evaluation` wrote.

    Raises:
        UserError: If the file is none of these.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"{size:,} bytes of arrays")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        content = json.loads(str(arrays.pop("content")))
        return _check(_Content.model_validate(_put_arrays(content, "", arrays)).result)
    except BROKEN as error:
        said = f"{path}: not an evaluation of this version ({type(error).__name__}: {error})"
        raise UserError(said, hint="Evaluate the run again.") from error


def _put_arrays(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _put_arrays(inner, f"{place}/{key}".lstrip("/"), arrays) for key, inner in value.items()}
    if value == ARRAY:
        if arrays[place].dtype not in (np.float64, np.int64):
            raise ValueError(f"{place} holds {arrays[place].dtype}")
        return arrays[place]
    return value


def _check(result: EvaluationResult) -> EvaluationResult:
    """Return an evaluation whose arrays fit together.

    Raises:
        ValueError: If they do not.
        KeyError: If the model's errors are missing.
    """
    width = len(result.feature_names)
    sound = result.scale.shape == (width,) and bool((result.scale > 0).all())
    for errors in result.tables().values():
        shape = errors[MODEL].squared.shape
        sound &= shape[1:] == (width,) and all(table.squared.shape == shape for table in errors.values())
    if not sound or result.zero_state.by_position[MODEL].ndim != 2:
        raise ValueError("arrays that do not fit together")
    return result
