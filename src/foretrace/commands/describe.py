"""How recordings will be read, before anything trains: columns, time, episodes, parts and doubts.

Shapes: N rows of all episodes, F features, K covariates.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from foretrace.config import DescribeConfig, PublishedData
from foretrace.data import sources
from foretrace.data.sequences import Sequences, blocks
from foretrace.data.windows import Windows
from foretrace.errors import UserError
from foretrace.workspace import Workspace, atomic_write, check_target

FIRST_ROWS = 3
SHOWN = 40  # columns and episodes that are listed one by one


def run(config: DescribeConfig, *, workspace: Workspace) -> str:
    """Print how the data will be read, and write them as one table if that is asked for.

    Returns:
        The last line, for scripts.

    Raises:
        UserError: If the data cannot be read as asked for.
    """
    output = Path(config.output).expanduser() if config.output is not None else None
    if output is not None:
        if output.suffix != ".parquet":
            raise UserError(f"output: {output.name} does not end in .parquet")
        check_target(output, overwrite=config.overwrite)
    if isinstance(config.data, PublishedData):
        raise UserError(
            f"data={config.data.source}: has its own files, windows and parts, described in docs/results.md"
        )
    sequences, report = sources.read(config.data, cache=workspace.cache)
    splits, warnings = sources.split_up(config.data, sequences)
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    windows = {
        name: Windows(part, length=config.data.window, stride=config.data.stride)
        for name, part in parts.items()
        if part is not None
    }
    _print_columns(sequences, report)
    _print_rows(sequences, report)
    print("parts    " + f"windows of {config.data.window} steps, one every {config.data.stride}")
    for name, part in windows.items():
        print(f"  {name:<7}{_summary(part.sequences)}{len(part):>9,} windows{_span(part.sequences)}")
    covered = sum(_covered(part) for part in windows.values())
    print(f"  {sequences.num_rows - covered:,} rows are in no window")
    for warning in [
        *warnings,
        *(["a part has no window: data.window is too long for it"] * (not all(map(len, windows.values())))),
    ]:
        print(f"warning  {warning}")
    if output is not None:
        _write(sequences, output)
        print(f"table    {output}")
    counts = "/".join(str(len(windows[name])) if name in windows else "0" for name in parts)
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
        print(f"files    {report['files']:,}{(report.get('dialect') and ', ' + report['dialect']) or ''}")
    known = {column["name"]: column for column in report.get("columns", ())}
    names = [*sequences.feature_names, *sequences.covariate_names]
    width = min(max(map(len, [*names, *report.get("passed over", ()), "column"])), 40) + 2
    print(f"{'column':<{width}}{'use':<11}{'unit':<8}{'missing':>9}{'least':>12}{'mean':>12}{'greatest':>12}")
    units = dict(zip(sequences.feature_names, sequences.units, strict=True))
    for name in names[:SHOWN]:
        use, column = "feature" if name in units else "covariate", known.get(name, {})
        figures = "".join(
            f"{column[k]:>12.5g}" if column.get(k) is not None else f"{'':>12}"
            for k in ("min", "mean", "max")
        )
        print(
            f"{name[: width - 2]:<{width}}{use:<11}{units.get(name, '')[:7]:<8}"
            f"{column.get('missing', 0):>9,}{figures}".rstrip()
        )
    for name in report.get("time", ()):
        print(f"{name[: width - 2]:<{width}}time")
    if report.get("episode"):
        print(f"{report['episode'][: width - 2]:<{width}}episode")
    for name, reason in list(report.get("passed over", {}).items())[:SHOWN]:
        print(f"{name[: width - 2]:<{width}}passed over{': ' + reason if reason else ''}")


def _print_rows(sequences: Sequences, report: Mapping[str, Any]) -> None:
    step = "unknown or not constant" if sequences.dt_s is None else f"{sequences.dt_s:g} s"
    if steps := report.get("steps"):
        step += f" (between rows {steps['min']:g} to {steps['max']:g} s, median {steps['median']:g})"
    print(f"time     step {step}{_span(sequences)}")
    counted = {name: count for name, count in sequences.notes.items() if count}
    print(
        "rows     "
        + (", ".join(f"{name}: {count:,}" for name, count in counted.items()) or f"{sequences.num_rows:,}")
    )
    listed = [
        f"{n} ({rows:,})"
        for n, rows in zip(sequences.episode_names[:8], sequences.lengths[:8].tolist(), strict=True)
    ]
    print(f"episodes {len(sequences):,}: {', '.join(listed)}{', …' if len(sequences) > 8 else ''}")
    first = sequences.bounds[0, 0]
    for row in range(first, min(first + FIRST_ROWS, sequences.bounds[0, 1])):
        time = f"{_date(sequences, row)}  " if sequences.times is not None else ""
        print(
            f"  {time}"
            + "  ".join(f"{value:.6g}" for value in [*sequences.values[row], *sequences.covariates[row]][:12])
        )


def _summary(part: Sequences) -> str:
    return f"{len(part):>6,} episodes{part.num_rows:>11,} rows"


def _covered(windows: Windows) -> int:
    """Rows that some window reads or has as its target."""
    last = windows.last_start // windows.stride * windows.stride
    ahead = windows.length + (1 if windows.sequences.next_values is None else 0)
    return (
        int(np.where(windows.last_start >= 0, last + ahead, 0).sum())
        if windows.stride <= ahead
        else len(windows) * ahead
    )


def _span(part: Sequences) -> str:
    if part.times is None or not len(part):
        return ""
    ends = part.bounds[:, 1] - 1
    first = part.bounds[np.argmin(part.times[part.bounds[:, 0]]), 0]
    return f"  {_date(part, int(first))} to {_date(part, int(ends[np.argmax(part.times[ends])]))}"


def _date(sequences: Sequences, row: int) -> str:
    assert sequences.times is not None, "asked for where there are times"
    time = int(sequences.times[row])
    return (
        str(np.datetime64(time, "ns").astype("M8[ms]")).removesuffix(".000")
        if sequences.has_dates
        else f"{time / 1e9:g} s"
    )


def _write(sequences: Sequences, output: Path) -> None:
    """Write the canonical table: episode, time where it is known, features, covariates."""
    names = [*sequences.feature_names, *sequences.covariate_names]
    own = {"episode": pa.string()}
    if sequences.times is not None:
        own["time"] = pa.timestamp("ns") if sequences.has_dates else pa.float64()
    labels = {name: name + "_" * (name in names) for name in own}
    schema = pa.schema([*((labels[n], kind) for n, kind in own.items()), *((n, pa.float32()) for n in names)])
    with atomic_write(output) as aside, parquet.ParquetWriter(str(aside), schema) as writer:
        for name, bounds in zip(sequences.episode_names, sequences.bounds, strict=True):
            for first, end in blocks(bounds[None]):
                columns: list[Any] = [pa.array([name] * (end - first))]
                if sequences.times is not None:
                    times = sequences.times[first:end]
                    columns.append(
                        pa.array(times, pa.timestamp("ns")) if sequences.has_dates else pa.array(times / 1e9)
                    )
                rows = np.concatenate([sequences.values[first:end], sequences.covariates[first:end]], axis=1)
                columns += [pa.array(np.ascontiguousarray(column)) for column in rows.T]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
