"""The run of a process that trains along with the one that records."""

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import SupportsFloat

from foretrace.tracking.signals import NUMBERS


class NullRun:
    """A run that keeps nothing, in a worker process; it hears signals, which all processes obey together.

    Attributes:
        stop_requested: Whether this process got a signal.
    """

    folder = Path()
    defer_signals = True

    def __init__(self) -> None:
        self.stop_requested = False
        for number in NUMBERS:
            signal.signal(number, self._hear)

    def log_metrics(
        self,
        values: Mapping[str, SupportsFloat],
        *,
        step: int,
        tags: Mapping[str, str] | None = None,
        replace: bool = False,
    ) -> None:
        """Do nothing."""

    def flush(self, *, sync: bool = False) -> None:
        """Do nothing."""

    def log_text(self, path: str, text: str) -> None:
        """Do nothing."""

    def raise_if_stop_requested(self) -> None:
        """Do nothing: the processes agree on that."""

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True
