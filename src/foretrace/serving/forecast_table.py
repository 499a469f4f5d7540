"""The table of forecasts, written as it grows."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from foretrace.serving.rows import FloatArray

FORMATS = (".csv", ".parquet")
ROWS = 16_384  # that are written together: a Parquet file of many small pieces is large and slow


class ForecastTable:
    """A CSV or Parquet file with a row per forecast: episode, step, time in seconds if it is known, features.

    Steps count the rows of an episode from 0, the given ones and those that follow. Where a feature has the name
    of one of these columns, that column is called ``forecast step`` and so on.

    Args:
        path: Of the file; written in place.
        suffix: ``.csv`` or ``.parquet``.
        feature_names: One column each.
        dt_s: Time step; None leaves the time out.
    """

    def __init__(self, path: Path, suffix: str, *, feature_names: Sequence[str], dt_s: float | None) -> None:
        own = {"episode": pa.string(), "step": pa.int64()} | ({"time": pa.float64()} if dt_s else {})
        names = {_apart(name, feature_names): kind for name, kind in own.items()}
        self.schema = pa.schema([*names.items(), *((name, pa.float32()) for name in feature_names)])
        self._path, self._suffix, self._dt_s = path, suffix, dt_s
        self.rows = 0
        self._waiting: list[pa.Table] = []
        self._written = 0
        self._stack = ExitStack()

    def __enter__(self) -> "ForecastTable":
        writer = csv.CSVWriter if self._suffix == ".csv" else parquet.ParquetWriter
        self._writer = self._stack.enter_context(writer(str(self._path), self.schema))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write()
        self._stack.__exit__(kind, error, trace)

    def add(self, episode: str, first: int, forecasts: FloatArray) -> None:
        """Adds forecasts (T, F) of an episode's steps from ``first`` on."""
        steps = np.arange(first, first + len(forecasts))
        columns = [pa.array([episode] * len(steps)), pa.array(steps)]
        columns += [] if self._dt_s is None else [pa.array(np.round(steps * self._dt_s, 9))]
        columns += [pa.array(column) for column in np.ascontiguousarray(forecasts.T)]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self.schema))
        self.rows += len(forecasts)
        if self.rows - self._written >= ROWS:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting, self._written = [], self.rows


def _apart(name: str, others: Sequence[str]) -> str:
    return _apart(f"forecast {name}", others) if name in others else name
