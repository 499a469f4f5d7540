"""SIGINT and SIGTERM as an exception: at once, or at the next place where a run's state is whole."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

from foretrace.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Turns signals into `Interrupted` from `take` to `give_back`, in the main thread only.

    Attributes:
        kept: While True, the first signal is kept for `raise_kept`; the second is raised at once.
        ignored: While True, none has any effect.

    >>> signals = Signals()
    >>> signals.take()
    >>> signals.kept = True
    >>> signal.raise_signal(signal.SIGTERM)
    >>> signals.came
    True
    >>> signals.give_back()
    """

    def __init__(self) -> None:
        self.kept = self.ignored = False
        self._first: Interrupted | None = None
        self._handlers: dict[int, Any] = {}

    @property
    def came(self) -> bool:
        """Whether a signal is kept."""
        return self._first is not None

    def take(self) -> None:
        """Handles signals from here on."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._handle) for number in NUMBERS}

    def give_back(self) -> None:
        """Leaves them to whoever handled them before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def raise_kept(self) -> None:
        """Obeys the signal that was kept, if any.

        Raises:
            Interrupted: If so.
        """
        if self._first is not None:
            raise self._first

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.ignored:
            return
        if self._first is not None or not self.kept:
            raise Interrupted(number)
        self._first = Interrupted(number)
        print(
            f"{self._first}: ending with a checkpoint; once more to end at once", file=sys.stderr, flush=True
        )
