"""The user's own recordings: files in, `Sequences` out.

Shapes: T rows of one episode, C chosen columns (features, then inputs).
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from foretrace.data.episodes import Episode, cut, separate, time_step
from foretrace.data.formats import file_format, find_files
from foretrace.data.gaps import constant_step
from foretrace.data.mapped import map_file
from foretrace.data.resolution import Resolution
from foretrace.data.sequences import Sequences
from foretrace.data.tables import Columns, Table, read_tables
from foretrace.errors import InputError, suggest

NOTES = (
    "rows",
    "missing values",
    "values interpolated",
    "gaps in time",
    "rows left out",
    "episodes dropped",
    "episodes too short",
)
MISSING = ("refuse", "interpolate", "drop")


def read_files(
    path: str,
    *,
    features: list[str] | None,
    inputs: list[str],
    units: dict[str, str],
    episode_column: str | None,
    order_column: str | None,
    dt_s: float | None,
    missing: str,
    missing_limit: int,
) -> Sequences:
    """Reads recordings from CSV, Parquet, NPY or NPZ files.

    Each file is an episode, as is each value of ``episode_column`` in a file, each array of an NPZ file and
    each first index of an NPY file of shape (E, T, F). The columns of arrays are named ``feature_0``,
    ``feature_1``, …. Rows in errors count from 1, without the header.

    Where ``order_column`` holds time stamps, an episode is cut where rows are missing in time, so that no
    step of the result spans a jump. Time stamps without a usual spacing are taken as they come.

    Args:
        path: A file, a folder or a pattern (``recordings/*.csv``, ``**`` for all folders below).
        features: Columns to predict; None for every numeric column that has no other use.
        inputs: Columns that are known but never predicted.
        units: Unit of any feature, by name.
        episode_column: Column whose values tell the episodes of a file apart; None: one episode per file.
        order_column: Column by which each episode is sorted: numbers or ISO 8601 time stamps.
        dt_s: Time step in seconds; None to derive it from the time stamps, where they are evenly spaced.
        missing: What to do about missing values. ``refuse`` raises. ``interpolate`` fills gaps of at most
            ``missing_limit`` rows between two values, by row, and cuts the episode at all others. ``drop``
            leaves out each episode that has any.
        missing_limit: Longest gap that is filled, in rows.

    Returns:
        Episodes of at least 2 rows, with the effect of all this counted in ``notes``.

    Raises:
        InputError: If the files cannot be read as asked for, if nothing is left, or if single precision cannot
            tell the values of a column apart.
    """
    columns = Columns(
        features=None if features is None else tuple(features),
        inputs=tuple(inputs),
        episode=episode_column,
        order=order_column,
    )
    _check_choices(columns, missing)
    files = find_files(path)
    if len(files) == 1 and columns == Columns(features=None, inputs=(), episode=None, order=None):
        mapped = map_file(files[0], name=stems(files)[0], units=units, dt_s=dt_s)
        if mapped is not None:
            _check_units(units, mapped.feature_names)
            notes = dict.fromkeys(NOTES, 0) | {"rows": mapped.num_rows}
            return replace(mapped, origin=path, notes=notes)
    limit = missing_limit if missing == "interpolate" else 0
    counts = Counter(dict.fromkeys(NOTES, 0))
    names: tuple[str, ...] = ()
    pieces: list[Episode] = []
    resolution = Resolution()
    for prefix, table in _read_all(files, columns):
        names = table.features
        _count_missing(table, names + columns.inputs, missing, counts)
        resolution.add(table.values)
        episodes = separate(table, prefix=prefix)
        step_s = time_step(episodes, where=table.where, dt_s=dt_s)
        for episode in episodes:
            if missing == "drop" and np.isnan(episode.values).any():
                counts.update({"episodes dropped": 1, "rows left out": len(episode.values)})
            else:
                pieces += cut(episode, step_s=step_s, limit=limit, notes=counts)
    _check_units(units, names)
    resolution.check(names + columns.inputs, where=path)
    if not pieces:
        raise _nothing_left(missing, counts)
    spacings_s = np.concatenate([piece.spacings_s for piece in pieces])
    return Sequences.from_episodes(
        [piece.values[:, : len(names)] for piece in pieces],
        feature_names=names,
        units=[units.get(name, "") for name in names],
        episode_names=[piece.name for piece in pieces],
        recordings=[piece.recording for piece in pieces],
        dt_s=constant_step(spacings_s) if dt_s is None else dt_s,
        covariates=[piece.values[:, len(names) :] for piece in pieces] if inputs else None,
        covariate_names=inputs,
        origin=path,
        notes=dict(counts),
    )


def _read_all(files: Sequence[Path], columns: Columns) -> Iterator[tuple[str, Table]]:
    """Every table, with what its episodes' names start with; the first one settles which the features are."""
    first: Table | None = None
    for file, stem in zip(files, stems(files), strict=True):
        chosen = columns if first is None else replace(columns, features=first.features)
        for table in read_tables(file, chosen):
            first = first or table
            if columns.features is None:
                _check_same_columns(table, first)
            alone = len(files) == 1 and (table.name or table.labels[0])
            yield "" if alone else stem, table


def stems(files: Sequence[Path]) -> list[str]:
    """The files' names without suffix, with as much of their path as makes them unique."""
    stems = [file.name[: -len(file_format(file))] for file in files]
    if len(set(stems)) < len(stems):
        common = os.path.commonpath([file.parent for file in files])
        stems = [file.relative_to(common).as_posix() for file in files]
    return stems


def _count_missing(table: Table, names: Sequence[str], missing: str, notes: Counter[str]) -> None:
    absent = np.isnan(table.values)
    notes["rows"] += len(absent)
    notes["missing values"] += int(absent.sum())
    if missing == "refuse" and absent.any():
        column = int(np.flatnonzero(absent.any(axis=0))[0])
        row = int(np.flatnonzero(absent[:, column])[0])
        counts = zip(names, absent.sum(axis=0), strict=True)
        listed = _listed(f"{name}: {count}" for name, count in counts if count)
        raise InputError(
            f"{table.where}, column {names[column]!r}, row {row + 1}",
            expected="a value in each row",
            received=f"{absent.sum()} missing ({listed})",
            remedy="Set data.missing=interpolate or drop, or choose other columns by data.features",
        )


def _check_choices(columns: Columns, missing: str) -> None:
    if missing not in MISSING:
        expected = f"one of {', '.join(MISSING)}"
        raise InputError("data.missing", expected=expected, received=missing)
    if columns.features == ():
        raise InputError("data.features", expected="at least one column, or null for all", received="[]")
    chosen = Counter((columns.features or ()) + columns.inputs)
    twice = next((name for name, count in chosen.items() if count > 1), None)
    if twice is not None:
        setting = "data.inputs" if twice in columns.inputs else "data.features"
        raise InputError(setting, expected="columns that are named once", received=f"{twice!r} twice")
    if columns.episode is not None and (columns.episode in chosen or columns.episode == columns.order):
        expected = "a column that is not also a feature, an input or data.order_column"
        raise InputError("data.episode_column", expected=expected, received=columns.episode)


def _check_same_columns(table: Table, first: Table) -> None:
    if not first.features:
        received = f"none among {_listed(first.available)}"
        raise InputError(first.where, expected="at least one numeric column to predict", received=received)
    there, before = set(table.available), set(first.available)
    further = [name for name in table.available if name not in before]
    absent = [name for name in first.features if name not in there]
    if further or absent:
        expected = f"the columns of {first.where}"
        received = f"also {_listed(further)}" if further else f"no {_listed(absent)}"
        remedy = "Name the columns to predict in data.features"
        raise InputError(table.where, expected=expected, received=received, remedy=remedy)


def _check_units(units: dict[str, str], names: Sequence[str]) -> None:
    unknown = next((name for name in units if name not in names), None)
    if unknown is not None:
        remedy = suggest(unknown, names)
        raise InputError("data.units", expected="names of features", received=repr(unknown), remedy=remedy)


def _nothing_left(missing: str, notes: Counter[str]) -> InputError:
    counts = ", ".join(f"{name}: {count}" for name, count in notes.items() if count)
    setting = "data.missing" if notes["missing values"] else "data.path"
    received = f"none with data.missing={missing} ({counts})"
    return InputError(setting, expected="at least one episode of 2 rows", received=received)


def _listed(texts: Iterable[str]) -> str:
    texts = list(texts)
    return ", ".join(texts[:8]) + (", …" if len(texts) > 8 else "")
