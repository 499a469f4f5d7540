"""Assessments as files, so that runs can be compared long after.

A file holds arrays and a text in JSON, nothing that is executed when read (``allow_pickle=False``).
"""

import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretrace.errors import InputError
from foretrace.evaluation.episode_errors import EpisodeErrors
from foretrace.evaluation.evaluate import EvaluationResult
from foretrace.evaluation.initial_state import CarriedStateErrors, ZeroStateErrors
from foretrace.evaluation.one_step import Errors, Evaluation
from foretrace.evaluation.rollout import OpenLoop

FORMAT = 1
LARGEST = 1 << 32  # bytes that a file is unpacked to; it may be a thousandth of that
BROKEN = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    RecursionError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)  # of an archive, of its arrays' headers, of its text
PLAIN = ("feature_names", "units", "dt_s", "episode_names", "recordings", "digest", "missing", "chosen")
COLD = ("scaled", "raw", "persistence_scaled", "persistence_raw")

Arrays = dict[str, Any]  # of NumPy arrays


def save_evaluation(assessment: EvaluationResult, path: Path) -> None:
    """Writes an assessment to an ``.npz`` file."""
    cold, cold_start, warm, loop = (
        assessment.cold,
        assessment.cold_start,
        assessment.warm,
        assessment.open_loop,
    )
    header: dict[str, Any] = {"format": FORMAT, "forecasts": {"cold": list(cold_start.errors)}}
    header |= {name: getattr(assessment, name) for name in PLAIN}
    arrays: Arrays = {"scale": assessment.scale} | _flat("cold", cold_start.errors)
    for name in COLD:
        errors: Errors = getattr(cold, name)
        arrays |= {f"{name}/mse": errors.mse, f"{name}/l1": errors.l1}
    arrays |= {f"by_position/{name}": array for name, array in cold_start.by_position.items()}
    if warm is not None:
        header["forecasts"]["warm"], header["warm"] = list(warm.errors), {"warmup": warm.warmup}
        arrays |= _flat("warm", warm.errors)
    if loop is not None:
        header["forecasts"]["open_loop"] = list(loop.errors)
        header["open_loop"] = {"warmup": loop.warmup, "threshold": loop.threshold}
        arrays |= _flat("open_loop", loop.errors)
        arrays |= {f"valid/{name}": array for name, array in loop.valid.items()}
    with path.open("wb") as file:  # given a name, NumPy would append a suffix to it
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)


def load_evaluation(path: Path) -> EvaluationResult:
    """Reads what `save_evaluation` wrote.

    Raises:
        InputError: If the file is none of these.
    """
    arrays, header = _read(path)
    try:
        return _assessment(arrays, header)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _refused(path, f"{type(error).__name__}: {error}") from error


def _assessment(arrays: Arrays, header: dict[str, Any]) -> EvaluationResult:
    forecasts = header["forecasts"]
    cold = {name: Errors(arrays[f"{name}/mse"], arrays[f"{name}/l1"]) for name in COLD}
    warm = open_loop = None
    if "warm" in header:
        warm = CarriedStateErrors(**header["warm"], errors=_tables("warm", forecasts["warm"], arrays))
    if "open_loop" in header:
        open_loop = OpenLoop(
            **header["open_loop"],
            errors=_tables("open_loop", forecasts["open_loop"], arrays),
            valid={name: arrays[f"valid/{name}"] for name in forecasts["open_loop"]},
        )
    plain: dict[str, Any] = {
        name: tuple(header[name]) if isinstance(header[name], list) else header[name] for name in PLAIN
    }
    return EvaluationResult(
        **plain,
        scale=arrays["scale"],
        cold=Evaluation(feature_names=plain["feature_names"], **cold),
        cold_start=ZeroStateErrors(
            by_position={name: arrays[f"by_position/{name}"] for name in forecasts["cold"]},
            errors=_tables("cold", forecasts["cold"], arrays),
        ),
        warm=warm,
        open_loop=open_loop,
    )


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"{size:,} bytes of arrays")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays.pop("header")))
    except BROKEN as error:
        raise _refused(path, f"{type(error).__name__}: {error}") from error
    written = header.get("format") if isinstance(header, dict) else None
    if written != FORMAT:
        raise _refused(path, f"format {written}")
    return arrays, header


def _refused(path: Path, received: str) -> InputError:
    expected, remedy = f"an assessment of format {FORMAT}", "Evaluate the run again."
    return InputError(str(path), expected=expected, received=received, remedy=remedy)


def _flat(part: str, errors: Mapping[str, EpisodeErrors]) -> Arrays:
    return {
        f"{part}/{name}/{key}": array for name, table in errors.items() for key, array in vars(table).items()
    }


def _tables(part: str, names: Sequence[str], arrays: Arrays) -> dict[str, EpisodeErrors]:
    keys = ("squared", "absolute", "count")
    return {name: EpisodeErrors(**{key: arrays[f"{part}/{name}/{key}"] for key in keys}) for name in names}
