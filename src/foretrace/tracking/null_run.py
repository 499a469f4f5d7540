"""What stands in a run's place in the processes that only train along with the one that records."""

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import SupportsFloat

from foretrace.tracking.signals import NUMBERS


class NullRun:
    """Takes what a run is told, and keeps nothing; hears signals, which all processes obey together.

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
        self, values: Mapping[str, SupportsFloat], *, step: int, tags: Mapping[str, str] | None = None
    ) -> None:
        """Nothing."""

    def flush(self, *, sync: bool = False) -> None:
        """Nothing."""

    def log_text(self, path: str, text: str) -> None:
        """Nothing."""

    def raise_if_stop_requested(self) -> None:
        """Nothing: the processes agree on that."""

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True
