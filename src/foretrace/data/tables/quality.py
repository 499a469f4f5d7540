"""What the numbers of recordings give reason to doubt: values that stand for none, outliers, lost digits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretrace.config.data import Reading
from foretrace.data.tables.engine import Engine, Source
from foretrace.errors import UserError

FEWEST_STEPS = 30  # of single precision in a standard deviation: rounding is then a hundredth of it
# Values that stand for none, by custom; doubtful only where one lies outside of all others by more than they span.
SENTINELS = frozenset(
    (99.0, 99.9, 99.99, 100.0, 200.0, 777.0, 888.0, 900.0, 999.0, 999.9, 999.99, 7777.0, 8888.0, 9999.0, 9999.9,
     9999.99, 32767.0, 32768.0, 99999.0, 999999.0, 9999999.0, 1e20, 1e30)
)  # fmt: skip
FAR = 20  # spans of all other values: farther outside lies an outlier


def profile_columns(
    engine: Engine,
    names: Sequence[str],
    features: Sequence[str],
    first: Source,
    given: Reading,
    found: str,
    warnings: list[str],
) -> list[dict[str, Any]]:
    """Size, spread and missing values of each column of the table ``raw``; adds to the warnings what is doubtful.

    Args:
        engine: That has the table.
        names: Of its columns x0, x1, ….
        features: Those of them that are predicted.
        first: The first file, for errors.
        given: The user's settings.
        found: Settings that were found out, for the hint.
        warnings: What a person should know before training.

    Raises:
        UserError: If values probably stand for none, or single precision would lose what varies.
    """
    profile, doubtful = [], {}
    for c, name in enumerate(names):
        one = f"SELECT min(x{c}) AS low, max(x{c}) AS high FROM raw"
        inside = f"FILTER (x{c} > low), max(x{c}) FILTER (x{c} < high)"
        inside += f", count(*) FILTER (x{c} = low), count(*) FILTER (x{c} = high)"
        spread = f"count(*) - count(x{c}), any_value(low), any_value(high), avg(x{c}), stddev_pop(x{c})"
        missing, low, high, mean, std, second, before, lows, highs = engine.rows(
            f"SELECT {spread}, min(x{c}) {inside} FROM raw, ({one})"
        )[0]
        profile.append({"name": name, "missing": missing, "min": low, "max": high, "mean": mean, "std": std})
        if low is None or name not in features:
            continue
        _check_digits(name, profile[-1], first)
        if low == high:
            warnings.append(f"column {name!r} is constant ({low:g})")
            continue
        for value, gap, span, times in (
            (low, second - low, high - second, lows),
            (high, high - before, before - low, highs),
        ):
            if abs(value) in SENTINELS and gap > span:
                doubtful[name] = value, times
            elif gap > FAR * span > 0:
                warnings.append(
                    f"column {name!r}: {value:g} ({times:,} times) lies far outside of all others"
                )
    if doubtful:
        _refuse_sentinels(doubtful, first, given, found)
    return profile


def _check_digits(name: str, column: Mapping[str, Any], source: Source) -> None:
    """Refuses a column that varies, but by less than single precision can tell, unless it was recorded in that."""
    largest, std = max(abs(column["min"]), abs(column["max"])), column["std"]
    is_lost = 0 < largest < np.finfo(np.float32).tiny or std < FEWEST_STEPS * float(
        np.spacing(np.float32(largest))
    )
    if is_lost and column["min"] < column["max"] and source.columns[name][1] != "FLOAT":
        raise UserError(
            f"{source.where}, column {name!r}: values up to {largest:.9g} that vary by {std:.2g} lose their variation "
            "in the 7 digits of single precision",
            hint="Subtract an offset, change the unit, or choose other columns by data.features",
        )


def _refuse_sentinels(
    doubtful: Mapping[str, tuple[float, int]], source: Source, given: Reading, found: str
) -> None:
    if given.missing_values is not None:
        return
    values = ",".join(f"{value:g}" for value in dict.fromkeys(value for value, _ in doubtful.values()))
    name, (value, times) = next(iter(doubtful.items()))
    missing = " data.missing=interpolate" if given.missing == "error" else ""
    settings = f"data.missing_values=[{values}]{missing}{found and f' {found}'}"
    raise UserError(
        f"{source.where}, column {name!r}: {value:g} ({times:,} times) looks like a missing value",
        hint=f"Set {settings}, or data.missing_values=[] to keep it",
    )
