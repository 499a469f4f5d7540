"""How recordings will be read, before anything trains: columns, time, episodes, parts and doubts.

Shapes: N rows of all episodes, F features, K covariates.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from foretrace.config import DescribeConfig, PublishedData
from foretrace.data import sources
from foretrace.data.sequences import Sequences, blocks
from foretrace.data.windows import Windows
from foretrace.errors import UserError, sanitize
from foretrace.reports import console
from foretrace.workspace import Workspace, atomic_write, check_target

FIRST_ROWS, FIRST_EPISODES = 3, 8
ROW_GROUP = 1 << 16  # rows that are written at a time
SHOWN = 40  # columns that are listed one by one
FIGURES = {"missing": "{:,.0f}", "min": "{:.5g}", "mean": "{:.5g}", "max": "{:.5g}"}


def run(config: DescribeConfig, *, workspace: Workspace) -> str:
    """Print how the data will be read, and write them as one table if that is asked for.

    Returns:
        The last line, for scripts.

    Raises:
        UserError: If the data cannot be read as asked for.
    """
    output = None
    if config.output is not None:
        output = check_target(config.output, overwrite=config.overwrite, endings=(".parquet",))
    if isinstance(config.data, PublishedData):
        told = "has its own files, windows and parts, described in docs/results.md"
        raise UserError(f"data={config.data.source}: {told}")
    sequences, report = sources.read(config.data, cache=workspace.cache)
    splits, warnings = sources.split_up(config.data, sequences)
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    length, stride = config.data.window, config.data.stride
    windows = {name: Windows(part, length=length, stride=stride) for name, part in parts.items() if part}
    _print_columns(sequences, report)
    _print_rows(sequences, report)
    print(f"parts    windows of {length} steps, one every {stride}")
    rows = []
    for name, part in windows.items():
        sizes = len(part.sequences), part.sequences.num_rows, len(part)
        rows.append((name, *(f"{size:,}" for size in sizes), _span(part.sequences)))
    print(console.Table("Parts", ("part", "episodes", "rows", "windows", "time"), rows).text(indent="  "))
    print(f"  {sequences.num_rows - sum(map(_covered, windows.values())):,} rows are in no window")
    if not all(map(len, windows.values())):
        warnings.append("a part has no window: data.window is too long for it")
    for warning in warnings:
        print(f"warning  {warning}")
    if output is not None:
        _write(sequences, output)
        print(f"table    {output}")
    counts = "/".join(str(len(windows.get(name, ""))) for name in parts)
    step = "none" if sequences.dt_s is None else f"{sequences.dt_s:g}"
    line = (
        f"data rows={sequences.num_rows} episodes={len(sequences)} features={len(sequences.feature_names)} "
        f"covariates={len(sequences.covariate_names)} dt_s={step} windows={counts} digest={sequences.digest}"
    )
    print(line, flush=True)
    return line


def _print_columns(sequences: Sequences, report: Mapping[str, Any]) -> None:
    print(f"data     {sequences.origin}")
    if report.get("files"):
        print(", ".join(filter(None, [f"files    {report['files']:,}", report.get("dialect")])))
    episode = [report["episode"]] if report.get("episode") else []
    named: dict[str, Iterable[str]] = {
        "feature": sequences.feature_names,
        "covariate": sequences.covariate_names,
    }
    named |= {"time": report.get("time", ()), "episode": episode}
    uses = {name: use for use, names in named.items() for name in names}
    for name, reason in report.get("passed over", {}).items():
        uses[name] = f"passed over: {reason}" if reason else "passed over"
    units = dict(zip(sequences.feature_names, sequences.units, strict=True))
    known = {column["name"]: column for column in report.get("columns", ())}
    rows = []
    for name, use in list(uses.items())[:SHOWN]:
        found = [(shape, known.get(name, {}).get(figure)) for figure, shape in FIGURES.items()]
        told = [shape.format(value) if pd.notna(value) else "" for shape, value in found]
        rows.append((sanitize(name, longest=SHOWN), use, units.get(name, ""), *told))
    print(console.Table("Columns", ("column", "use", "unit", *FIGURES), rows).text())


def _print_rows(sequences: Sequences, report: Mapping[str, Any]) -> None:
    step = "unknown or not constant" if sequences.dt_s is None else f"{sequences.dt_s:g} s"
    if steps := report.get("steps"):
        step += f" (between rows {steps['min']:g} to {steps['max']:g} s, median {steps['median']:g})"
    print(f"time     step {step}  {_span(sequences)}".rstrip())
    counted = ", ".join(f"{name}: {count:,}" for name, count in sequences.notes.items() if count)
    print(f"rows     {counted or f'{sequences.num_rows:,}'}")
    lengths = zip(sequences.episode_names, sequences.lengths.tolist(), strict=True)
    listed = [f"{name} ({rows:,})" for name, rows in lengths][:FIRST_EPISODES]
    print(f"episodes {len(sequences):,}: {', '.join(listed)}{', …' if len(sequences) > len(listed) else ''}")
    first, end = sequences.bounds[0].tolist()
    for row in range(first, min(first + FIRST_ROWS, end)):
        values = [f"{value:.6g}" for value in (*sequences.values[row], *sequences.covariates[row])][:12]
        print("  " + "  ".join([_date(sequences, row), *values] if sequences.times is not None else values))


def _covered(windows: Windows) -> int:
    """Rows that some window reads or has as its target."""
    last = windows.last_start // windows.stride * windows.stride
    ahead = windows.length + int(windows.sequences.next_values is None)
    if windows.stride > ahead:
        return len(windows) * ahead
    return int(np.where(windows.last_start >= 0, last + ahead, 0).sum())


def _span(part: Sequences) -> str:
    if part.times is None or not len(part):
        return ""
    firsts, lasts = part.bounds[:, 0], part.bounds[:, 1] - 1
    ends = firsts[np.argmin(part.times[firsts])], lasts[np.argmax(part.times[lasts])]
    return " to ".join(_date(part, row) for row in ends)


def _date(sequences: Sequences, row: int) -> str:
    assert sequences.times is not None, "asked for where there are times"
    time = int(sequences.times[row])
    if not sequences.has_dates:
        return f"{time / 1e9:g} s"
    return str(np.datetime64(time, "ns").astype("M8[ms]")).removesuffix(".000")


def _write(sequences: Sequences, output: Path) -> None:
    """Write the canonical table: episode, time where it is known, features, covariates."""
    names = [*sequences.feature_names, *sequences.covariate_names]
    kinds = {"episode": pa.string()}
    if sequences.times is not None:
        kinds["time"] = pa.timestamp("ns") if sequences.has_dates else pa.float64()
    own = [(name + "_" * (name in names), kind) for name, kind in kinds.items()]
    schema = pa.schema([*own, *((name, pa.float32()) for name in names)])
    with atomic_write(output) as aside, parquet.ParquetWriter(str(aside), schema) as writer:
        for name, bounds in zip(sequences.episode_names, sequences.bounds, strict=True):
            for first, end, _ in blocks(bounds[None], ROW_GROUP):
                columns: list[Any] = [[name] * (end - first)]
                if sequences.times is not None:
                    times = sequences.times[first:end]
                    columns.append(times if sequences.has_dates else times / 1e9)
                columns += [*sequences.values[first:end].T.copy(), *sequences.covariates[first:end].T.copy()]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
