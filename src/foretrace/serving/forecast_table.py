"""The table of forecasts, written as it grows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv, parquet

from foretrace.data.sequences import FloatArray

FORMATS = (".csv", ".parquet")
ROWS = 16_384  # that are written together: a Parquet file of many small pieces is large and slow


class ForecastTable:
    """A CSV or Parquet file with a row per forecast: episode, step, time if it is known, features.

    Steps count the rows of an episode from 0, the given ones and those that follow. Where a feature has the name
    of one of these columns, that column is called ``forecast step`` and so on.

    Args:
        path: Written in place.
        suffix: ``.csv`` or ``.parquet``.
        columns: Names of features and of the ends of their intervals.
        time: Type of the time, dates or seconds as floats; None leaves the time out.
    """

    def __init__(self, path: Path, suffix: str, *, columns: Sequence[str], time: pa.DataType | None) -> None:
        own = {"episode": pa.string(), "step": pa.int64()} | ({"time": time} if time is not None else {})
        fields = [(name, pa.float32()) for name in columns]
        for name, kind in reversed(own.items()):
            while name in dict(fields):  # its own columns step aside until no feature has their name
                name = f"forecast {name}"
            fields.insert(0, (name, kind))
        self.schema = pa.schema(fields)
        self.rows, self._time, self._waiting = 0, time, list[pa.Table]()
        writer: Any = csv.CSVWriter if suffix == ".csv" else parquet.ParquetWriter
        self._writer = writer(str(path), self.schema)

    def add(
        self, episode: str, first: int, forecasts: FloatArray, times: npt.NDArray[np.int64] | None
    ) -> None:
        """Add forecasts (T, columns) of an episode's steps from ``first`` on, and their times in nanoseconds (T,)."""
        steps = np.arange(first, first + len(forecasts))
        columns = [pa.array([episode] * len(steps)), pa.array(steps)]
        if self._time is not None and times is not None:
            dates = pa.types.is_timestamp(self._time)
            stamps = pa.array(times, pa.timestamp("ns")) if dates else pa.array(times / 1e9)
            columns.append(stamps.cast(self._time, safe=False))
        columns += [pa.array(column) for column in np.ascontiguousarray(forecasts.T)]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self.schema))
        self.rows += len(forecasts)
        if sum(len(table) for table in self._waiting) >= ROWS:
            self._write()

    def close(self) -> None:
        """Write what waits, and end the file."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting = []
