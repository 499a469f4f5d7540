"""Recordings in one canonical form: single precision, mapped from the cache, in episodes without holes.

Shapes: N rows of all episodes, F features, K covariates.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from foretrace.config.data import Reading
from foretrace.data.sequences import Sequences
from foretrace.data.tables.arrays import map_array, open_arrays
from foretrace.data.tables.convert import LARGEST, NOTES, Conversion
from foretrace.data.tables.engine import Engine
from foretrace.data.tables.episodes import Rows, blocks, map_files
from foretrace.data.tables.files import find_files, stems
from foretrace.data.tables.steps import Times
from foretrace.errors import UserError

VERSION = 2  # of the canonical form


@dataclass(frozen=True, eq=False, kw_only=True)
class Recordings:
    """What was read, and how."""

    sequences: Sequences  # episodes without holes
    reading: Reading  # the settings with all that was found out: with them, new files are read the same way
    report: dict[str, Any]  # what a person may want to know of the columns and of the time
    warnings: tuple[str, ...]  # what a person should know before training
    # For each recording, first row after its last with features and one past its last; covariates alone.
    future: dict[str, tuple[int, int]]


def read_recordings(path: str, reading: Reading, *, cache: Path, with_future: bool = False) -> Recordings:
    """Read recordings from files of text, Parquet files and arrays.

    Each file is an episode, as is each value of ``episode_column`` in a file, each array of an NPZ file and each first
    index of an NPY file of shape (E, T, F). An episode is cut where rows are missing in time. Rows in errors count
    from 1, without the header.

    Args:
        path: A file, a folder, a pattern or a URL.
        reading: Which columns, and how they are written.
        cache: Folder in which the canonical form is kept for the next time.
        with_future: Set rows at the end of an episode that have no feature apart, instead of minding them.

    Raises:
        UserError: If the files cannot be read as asked for, or nothing is left.
    """
    files = find_files(path, cache=cache)
    if (mapped := _map(files, reading, path)) is not None:
        return mapped
    facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    settings = repr((VERSION, facts, path, reading.model_dump(), with_future))
    key = hashlib.sha256(settings.encode()).hexdigest()[:20]
    folder = cache / "tables" / key
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(folder.parent, os.W_OK):
        hint = f"Set FORETRACE_HOME to a folder that user {os.getuid()} may write."
        raise UserError(f"{folder.parent}, where data are kept, cannot be written", hint=hint)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            aside = folder.with_name(f".{key}.part")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                (aside / "scratch").mkdir(parents=True)
                with Engine(aside / "scratch") as engine:
                    Conversion(engine, files, reading, aside).run(origin=path, with_future=with_future)
                shutil.rmtree(aside / "scratch")
                aside.replace(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    meta = json.loads((folder / "meta.json").read_text())
    widths = len(meta["features"]), len(meta["covariates"])
    return _recordings(meta, *map_files(folder, *widths, has_times=meta["has_times"]))


def _map(files: Sequence[Path], reading: Reading, origin: str) -> Recordings | None:
    """One NPY file of single precision, read where it lies; None for what has to be converted."""
    plain = reading.model_copy(update={"units": None, "dt_s": None, "missing": "error"})
    if len(files) != 1 or not files[0].name.lower().endswith(".npy") or plain != Reading():
        return None
    open_arrays(files[0])  # checks it
    whole = map_array(files[0])
    if whole.dtype != np.float32 or not whole.flags.c_contiguous or whole.ndim < 2 or whole.shape[-2] < 2:
        return None
    values = whole.reshape(-1, whole.shape[-1])
    if not all((np.abs(values[b]) <= LARGEST).all() for b in blocks(0, len(values))):
        return None
    steps, names = whole.shape[-2], [f"feature_{f}" for f in range(values.shape[1])]
    firsts = range(0, len(values), steps)
    episodes = [f"episode {e}" for e in range(len(firsts))] if whole.ndim == 3 else stems(files)
    meta = {
        "origin": origin, "features": names, "covariates": [], "future": {}, "dt_s": reading.dt_s, "has_dates": False,
        "units": [(reading.units or {}).get(name, "") for name in names], "warnings": [], "report": {"files": 1},
        "pieces": [(name, name, first, first + steps) for name, first in zip(episodes, firsts, strict=True)],
        "notes": dict.fromkeys(NOTES, 0) | {"rows": len(values)},
        "reading": reading.model_copy(update={"features": names}).model_dump(),
    }  # fmt: skip
    return _recordings(meta, values, np.zeros((len(values), 0), np.float32), None)


def _recordings(meta: dict[str, Any], values: Rows, covariates: Rows, times: Times | None) -> Recordings:
    """Make a `Recordings` of the canonical form."""
    sequences = Sequences(
        values=values,
        bounds=np.array([piece[2:] for piece in meta["pieces"]], np.int64),
        feature_names=tuple(meta["features"]),
        units=tuple(meta["units"]),
        episode_names=tuple(piece[0] for piece in meta["pieces"]),
        recordings=tuple(piece[1] for piece in meta["pieces"]),
        dt_s=meta["dt_s"],
        covariates=covariates,
        covariate_names=tuple(meta["covariates"]),
        origin=meta["origin"],
        notes=meta["notes"],
        times=times,
        has_dates=meta["has_dates"],
        warnings=tuple(meta["warnings"]),
        reading=meta["reading"],
    )
    return Recordings(
        sequences=sequences,
        reading=Reading.model_validate(meta["reading"]),
        report=meta["report"] | {"steps": meta.get("steps")},
        warnings=sequences.warnings,
        future={name: tuple(rows) for name, rows in meta["future"].items()},
    )
