"""Whether single precision, in which recordings travel, can tell their values apart.

A number in single precision has 24 bits. Time stamps in milliseconds, or a small signal on a large offset, use
them up before the signal begins.

Shapes: N rows, C columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.errors import InputError

FEWEST_STEPS = 30  # of single precision in a standard deviation: rounding is then a hundredth of it
NOISE = 1e-14  # of a value, that computing in double precision leaves on what is constant
ROWS = 2**16  # at once


class Resolution:
    """Mean, spread and size of columns in double precision, over tables of any number.

    >>> seen = Resolution()
    >>> seen.add(np.array([[1e9, 1.0], [1e9 + 1, 2.0]]))
    >>> seen.std.tolist(), seen.is_lost.tolist()
    ([0.5, 0.5], [True, False])
    """

    def __init__(self) -> None:
        self._count, self._mean, self._squares, self._largest = np.zeros((4, 1))

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Standard deviation of each column. Shape (C,)."""
        std: npt.NDArray[np.float64] = np.sqrt(self._squares / np.maximum(self._count, 1))
        return std

    @property
    def is_lost(self) -> npt.NDArray[np.bool_]:
        """Whether single precision would turn a column that varies into steps, or into zeros. Shape (C,)."""
        step = np.spacing(self._largest.astype(np.float32)).astype(np.float64)
        lost: npt.NDArray[np.bool_] = (self.std < FEWEST_STEPS * step) & (self.std > NOISE * self._largest)
        vanished: npt.NDArray[np.bool_] = (self._largest > 0) & (self._largest < np.finfo(np.float32).tiny)
        return lost | vanished

    def add(self, values: npt.NDArray[Any]) -> None:
        """Takes further rows (N, C) into account, NaN where missing. What is in single precision stays as it is."""
        if values.dtype.kind == "f" and values.dtype.itemsize <= 4:
            return
        for first in range(0, len(values), ROWS):
            self._add(values[first : first + ROWS].astype(np.float64))

    def check(self, names: Sequence[str], *, where: str) -> None:
        """Refuses a column whose values would be lost.

        Raises:
            InputError: If there is one.
        """
        for column in np.flatnonzero(self.is_lost).tolist():
            raise InputError(
                f"{where}, column {names[column]!r}",
                expected="values that 7 digits (float32) can tell apart",
                received=f"values up to {self._largest[column]:.9g} that vary by {self.std[column]:.2g}",
                remedy="Subtract an offset, change the unit, or choose other columns by data.features",
            )

    def _add(self, rows: npt.NDArray[np.float64]) -> None:
        """Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm" (1979), equation 2.1."""
        known = ~np.isnan(rows)
        rows, count = np.where(known, rows, 0), known.sum(axis=0)
        mean = rows.sum(axis=0) / np.maximum(count, 1)
        total = np.maximum(self._count + count, 1)
        apart = np.where(count, mean - self._mean, 0)
        squares = np.where(known, rows - mean, 0) ** 2
        self._squares = self._squares + squares.sum(axis=0) + apart**2 * self._count * count / total
        self._mean = self._mean + apart * count / total
        self._count = self._count + count
        self._largest = np.maximum(self._largest, np.abs(rows).max(axis=0, initial=0))
