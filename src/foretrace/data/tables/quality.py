"""What recordings give reason to doubt: values that stand for none, outliers, lost digits, uneven time."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from foretrace.config.data import Reading
from foretrace.data.tables.columns import Uses
from foretrace.data.tables.engine import Engine, Table
from foretrace.data.tables.episodes import BLOCK, Stretch
from foretrace.data.tables.steps import JUMP, MONTH_S, SAME_STEP, Times, constant_step
from foretrace.data.tables.time_formats import FIRST_DATE_NS, UNITS
from foretrace.data.tables.times import TIME_NAME, order_columns
from foretrace.errors import UserError

FEWEST_STEPS = 30  # of single precision in a standard deviation: rounding is then a hundredth of it
# Values that stand for none, by custom; doubtful only where one lies outside of all others by more than they span.
SENTINELS = frozenset(
    (99.0, 99.9, 99.99, 100.0, 200.0, 777.0, 888.0, 900.0, 999.0, 999.9, 999.99, 7777.0, 8888.0, 9999.0, 9999.9,
     9999.99, 32767.0, 32768.0, 99999.0, 999999.0, 9999999.0, 1e20, 1e30)
)  # fmt: skip
MOST_SHOWN = 12  # constant columns in a warning
FAR = 20  # spans of all other values: farther outside lies an outlier


def profile_columns(
    engine: Engine,
    names: Sequence[str],
    table: Table,
    given: Reading,
    uses: Uses,
    *,
    where: Callable[[int, float], str],
) -> list[dict[str, Any]]:
    """Return size, spread and missing values of columns x0, x1, … of ``raw``; add to the warnings what is doubtful.

    ``where`` tells file, column and row of the first of a column's values.

    Raises:
        UserError: If values probably stand for none, or single precision would lose what varies.
    """
    profile, doubtful, constant = [], dict[str, tuple[float, int]](), list[str]()
    columns = [f"x{c}" for c in range(len(names))]
    spread = ("count(*) - count({x})", "min({x})", "max({x})", "avg({x})", "stddev_pop({x})")
    spreads = engine.measure([[each.format(x=x) for each in spread] for x in columns])
    inside = ("min(if({x} > {low}, {x}, NULL))", "max(if({x} < {high}, {x}, NULL))",
              "count(if({x} = {low}, 1, NULL))", "count(if({x} = {high}, 1, NULL))")  # fmt: skip
    ends = [[f"'{value}'::DOUBLE" if value is not None else "NULL" for value in row[1:3]] for row in spreads]
    insides = engine.measure([[each.format(x=x, low=low, high=high) for each in inside]
                              for x, (low, high) in zip(columns, ends, strict=True)])  # fmt: skip
    for name, (missing, low, high, mean, std), (second, before, lows, highs) in zip(
        names, spreads, insides, strict=True
    ):
        profile.append({"name": name, "missing": missing, "min": low, "max": high, "mean": mean, "std": std})
        if low is None or name not in (uses.reading.features or ()):
            continue
        if low == high:
            constant.append(f"{name!r} ({low:g})")
            continue
        _check_digits(name, profile[-1], table)
        sides = (low, second - low, high - second, lows), (high, high - before, before - low, highs)
        for value, gap, span, times in sides:
            if abs(value) in SENTINELS and gap > span:
                doubtful[name] = value, times
                if given.missing_values is not None:
                    uses.warnings.append(
                        f"column {name!r}: {value:g} ({times:,} times) looks like a missing value"
                    )
            elif gap > FAR * span > 0:
                told = f"column {name!r}: {value:g} ({times:,} times) lies far outside of all others"
                uses.warnings.append(told)
    if constant:
        shown = ", ".join(constant[:MOST_SHOWN]) + ", …" * (len(constant) > MOST_SHOWN)
        uses.warnings.append(f"{len(constant):,} constant column(s): {shown}")
    if doubtful and given.missing_values is None:
        values = ",".join(f"{value:g}" for value in dict.fromkeys(value for value, _ in doubtful.values()))
        name, (value, times) = next(iter(doubtful.items()))
        missing = " data.missing=interpolate" if given.missing == "error" else ""
        settings = f"data.missing_values=[{values}]{missing}{uses.found and f' {uses.found}'}"
        raise UserError(
            f"{where(names.index(name), value)}: {value:g} ({times:,} times) looks like a missing value",
            hint=f"Set {settings}, or data.missing_values=[] to keep it",
        )
    return profile


def time_facts(
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
    order, time_format = order_columns(reading), str(reading.time_format)
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


def _check_digits(name: str, column: Mapping[str, Any], table: Table) -> None:
    """Refuse a column that varies by less than single precision can tell, unless it was recorded in that."""
    largest, std = max(abs(column["min"]), abs(column["max"])), column["std"]
    digits = FEWEST_STEPS * float(np.spacing(np.float32(largest)))
    if (largest < np.finfo(np.float32).tiny or std < digits) and table.columns[name][1] != "FLOAT":
        raise UserError(
            f"{table.where}, column {name!r}: values up to {largest:.9g} that vary by {std:.2g} lose their variation "
            "in the 7 digits of single precision",
            hint="Subtract an offset, change the unit, or choose other columns by data.features",
        )
