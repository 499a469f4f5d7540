"""Recordings in one canonical form: single precision, mapped from the cache, in episodes without holes.

Shapes: N rows of all episodes, F features, K covariates.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from foretrace.config.data import Reading
from foretrace.data.sequences import Sequences
from foretrace.data.tables.convert import NOTES, convert
from foretrace.data.tables.engine import Engine
from foretrace.data.tables.files import find_files, map_array, open_arrays, stems
from foretrace.data.tables.raw import LARGEST
from foretrace.data.tables.steps import blocks, map_files
from foretrace.errors import UserError

VERSION = 3  # of the canonical form


@dataclass(frozen=True, eq=False, kw_only=True)
class Recordings:
    """What was read, and how."""

    sequences: (
        Sequences  # episodes without holes; its ``reading`` is the settings with all that was found out
    )
    report: dict[str, Any]  # what a person may want to know of the columns and of the time
    # For each recording, first row after its last with features and one past its last; covariates alone.
    future: dict[str, tuple[int, int]] = field(default_factory=dict)


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
                    convert(engine, files, reading, aside, origin=path, with_future=with_future)
                shutil.rmtree(aside / "scratch")
                aside.replace(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    meta = json.loads((folder / "meta.json").read_text())
    fields: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in meta["sequences"].items()
    }
    widths = len(fields["feature_names"]), len(fields["covariate_names"])
    values, covariates, times = map_files(folder, *widths, has_times=meta["has_times"])
    bounds = np.array(meta["bounds"], np.int64)
    sequences = Sequences(values=values, bounds=bounds, covariates=covariates, times=times, **fields)
    future = {name: (first, end) for name, (first, end) in meta["future"].items()}
    return Recordings(sequences=sequences, report=meta["report"], future=future)


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
    firsts = np.arange(0, len(values), steps)
    episodes = [f"episode {e}" for e in range(len(firsts))] if whole.ndim == 3 else stems(files)
    sequences = Sequences(
        values=values,
        bounds=np.stack([firsts, firsts + steps], axis=1),
        feature_names=tuple(names),
        units=tuple((reading.units or {}).get(name, "") for name in names),
        episode_names=tuple(episodes),
        recordings=tuple(episodes),
        dt_s=reading.dt_s,
        covariates=np.zeros((len(values), 0), np.float32),
        origin=origin,
        notes=dict.fromkeys(NOTES, 0) | {"rows": len(values)},
        reading=reading.model_copy(update={"features": names}).model_dump(),
    )
    return Recordings(sequences=sequences, report={"files": 1, "steps": None})
