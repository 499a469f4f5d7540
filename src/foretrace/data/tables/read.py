"""Recordings in one canonical form: single precision, mapped from the cache, in episodes without holes.

Files go into the engine in one pass, are checked and sorted there, and come out in single precision.
Shapes: N rows of all episodes, T rows of one, F features, K covariates.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from foretrace.config.data import Reading
from foretrace.data.sequences import Sequences
from foretrace.data.tables.columns import choose_uses
from foretrace.data.tables.engine import UNITS, Engine
from foretrace.data.tables.files import find_files, map_array, open_arrays, stems
from foretrace.data.tables.raw import LARGEST, RawRows
from foretrace.data.tables.steps import (
    BLOCK,
    JUMP,
    MONTH_S,
    SAME_STEP,
    Rows,
    Stretch,
    Times,
    blocks,
    constant_step,
    cut,
    derive,
    derived_names,
    map_files,
    resample,
    split_future,
    usual_step,
)
from foretrace.data.tables.times import FIRST_DATE_NS, TIME_NAME
from foretrace.errors import UserError

VERSION = 4  # of the canonical form
FILES = ("values", "covariates", "times")
NOTES = ("rows", "missing values", "values interpolated", "gaps in time", "rows left out", "rows repeated",
         "rows without anything", "episodes dropped", "episodes too short")  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Recordings:
    """What was read, and how."""

    sequences: Sequences  # without holes; their ``reading`` is the settings with all that was found out
    report: dict[str, Any]  # what a person may want to know of the columns and of the time
    # For each recording, first row after its last with features and one past its last; covariates alone.
    future: dict[str, list[int]] = field(default_factory=dict)


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
                with closing(Engine(aside / "scratch")) as engine:
                    _convert(engine, files, reading, aside, origin=path, with_future=with_future)
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
    return Recordings(sequences=sequences, report=meta["report"], future=meta["future"])


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


def _convert(
    engine: Engine, files: Sequence[Path], given: Reading, folder: Path, *, origin: str, with_future: bool
) -> None:
    """Write files in the canonical form into an empty folder: values, covariates, times, what is known of them.

    Raises:
        UserError: If the files hold something that the user has to decide about.
    """
    tables, notes = engine.open(files, given), Counter(dict.fromkeys(NOTES, 0))
    uses = choose_uses(engine, tables, given)
    reading, order = uses.reading, uses.reading.order
    raw = RawRows(engine, tables, uses, notes)
    raw.gather(is_one_file=len(files) == 1)
    raw.check()
    profile = raw.profile(given)
    notes["missing values"] = sum(column["missing"] for column in profile)
    features = list(reading.features or ())
    names = [*raw.names, *derived_names(reading)]
    episodes = raw.sort()
    ends = _write(folder, raw, reading, len(episodes))
    if not ends[-1]:
        hint = "Give a longer step, or data.resample=mean"
        raise UserError("data.resample_s: no value at even times", hint=hint)
    widths = len(features), len(names) - len(features)
    values, covariates, times = map_files(folder, *widths, has_times=bool(order))
    stretches = list[Stretch]()
    for name, (first, end) in zip(episodes, pairwise([0, *ends]), strict=True):
        step = None if times is None else usual_step(times[first : min(end, first + 4 * BLOCK)])
        stretches.append(Stretch(name=name, recording=name, first=first, end=end, step=step))
    stretches = [stretch for stretch in stretches if stretch.end > stretch.first]
    stretches, future = split_future(stretches, values) if with_future else (stretches, {})
    if reading.missing == "error":
        parts = [block for stretch in stretches for block in blocks(stretch.first, stretch.end)]
        counts = sum(
            np.concatenate([np.isnan(each[b]).sum(axis=0) for each in (values, covariates)]) for b in parts
        )
        raw.refuse_missing(dict(zip(names, np.atleast_1d(counts).tolist(), strict=True)))
    pieces = cut(stretches, (values, covariates), times, reading, notes)
    if not pieces:
        counted = ", ".join(f"{name}: {count}" for name, count in notes.items() if count)
        hint = "Set data.missing=interpolate or data.gaps=keep"
        raise UserError(f"data.path: no episode of 2 rows is left ({counted})", hint=hint)
    if reading.elapsed:
        covariates[[piece.first for piece in pieces], names.index("elapsed") - len(features)] = 0
    facts = _time_facts(stretches, pieces, times, reading, notes, uses.warnings)
    meta = {
        "sequences": {
            "feature_names": features, "units": [(reading.units or {}).get(name, "") for name in features],
            "episode_names": [piece.name for piece in pieces], "recordings": [piece.recording for piece in pieces],
            "covariate_names": names[len(features) :], "dt_s": facts["dt_s"], "has_dates": facts["has_dates"],
            "origin": origin, "notes": dict(notes), "warnings": uses.warnings, "reading": reading.model_dump(),
        },
        "bounds": [(piece.first, piece.end) for piece in pieces], "has_times": facts["has_times"], "future": future,
        "report": {"files": len(tables), "columns": profile, "passed over": uses.passed_over,
                   "dialect": str(tables[0].dialect or ""), "time": order, "episode": reading.episode_column,
                   "steps": facts.get("steps")},
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))


def _write(folder: Path, raw: RawRows, reading: Reading, episodes: int) -> list[int]:
    """Write all rows in single precision; give where each recording ends."""
    lengths, features = [0] * episodes, len(reading.features or ())
    with ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in FILES]
        for k, group in groupby(raw.pieces(), key=lambda piece: piece[0]):
            parts: Iterator[tuple[Times, Rows]] = ((times, rows) for _, times, rows in group)
            if reading.resample_s:  # one episode is held in memory as a whole
                times, rows = (np.concatenate(each) for each in zip(*parts, strict=True))
                parts = iter([resample(times, rows, reading)])
            before = None
            for times, rows in parts:
                if len(times):
                    derived = derive(times, reading, before=times[0] if before is None else before)
                    covariates = np.concatenate([rows[:, features:], derived], axis=1)
                    for file, array in zip(files, (rows[:, :features], covariates, times), strict=True):
                        file.write(array.tobytes())
                    before, lengths[k] = times[-1], lengths[k] + len(rows)
    return list(accumulate(lengths))


def _time_facts(
    stretches: Sequence[Stretch],
    pieces: Sequence[Stretch],
    times: Times | None,
    reading: Reading,
    notes: Mapping[str, int],
    warnings: list[str],
) -> dict[str, Any]:
    """Return the time step, its spread, and whether the time has dates; add to the warnings what is doubtful.

    Raises:
        UserError: If something is asked for that the time does not give.
    """
    facts = {"has_times": False, "has_dates": False, "dt_s": reading.dt_s}
    if times is None:
        if reading.elapsed or reading.calendar or reading.resample_s:
            raise UserError("data.order_column: needed for data.elapsed, data.calendar and data.resample_s")
        return facts
    order, time_format = reading.order, str(reading.time_format)
    is_number = time_format in UNITS and len(order) == 1
    is_clock = "%" in time_format and not re.search("%[djyYG]", time_format)
    has_dates = not is_clock and (not is_number or int(times[0]) > FIRST_DATE_NS)
    if reading.calendar and not has_dates:
        hint = "Set data.time_format if it counts since 1970"
        raise UserError("data.calendar: the time has no dates", hint=hint)
    spacings = [np.diff(times[p.first : min(p.end, p.first + BLOCK)]) for p in pieces[:1000]]
    apart = np.concatenate(spacings) / 1e9
    if is_number and not has_dates and (apart == 1).all() and not TIME_NAME.search(order[0]):
        return facts  # it only counts rows
    usual, given = next((s.step / 1e9 for s in stretches if s.step), None), reading.dt_s
    if given and usual and abs(usual - given) > JUMP * given:
        raise UserError(f"data.dt_s: {given:g}, but rows are {usual:g} s apart", hint="Leave it out")
    if usual is None and not reading.elapsed and not reading.resample_s:
        irregular = f"irregular time steps ({apart.min():.4g} to {apart.max():.4g} s)"
        warnings.append(f"{irregular}: data.elapsed=true tells the model, data.resample_s makes them even")
    known = [s.step / 1e9 for s in stretches if s.step]
    if known and max(known) > (1 + SAME_STEP) * min(known) and max(known) < MONTH_S:
        warnings.append(f"time steps differ from recording to recording: {min(known):g} to {max(known):g} s")
    if gaps := notes["gaps in time"]:
        cuts = f"{len(stretches):,} recording(s) were cut into {len(pieces):,} pieces"
        lost = f" and {notes['rows left out']:,} rows left out" if notes["rows left out"] else ""
        warnings.append(f"gaps in time: {gaps:,}, at which {cuts}{lost}; data.gaps=keep spans them")
    spread = {"median": float(np.median(apart)), "min": float(apart.min()), "max": float(apart.max())}
    step = given or constant_step([times[p.first : p.end] for p in pieces])
    return {"has_times": True, "has_dates": has_dates, "dt_s": step, "steps": spread}
