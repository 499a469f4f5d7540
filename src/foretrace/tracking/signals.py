"""SIGINT and SIGTERM as an exception: at once, or at the next place where a run's state is complete."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

from foretrace.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Turns signals into `Interrupted` from `install` to `restore`, in the main thread only.

    Says so when it defers one, unless it is ``quiet``.

    Attributes:
        deferred: While True, the first signal only becomes ``pending``; the second is raised at once.
        ignored: While True, no signal has any effect.
        pending: The signal that was deferred, to be raised where the state is complete.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.deferred = self.ignored = False
        self.pending: Interrupted | None = None
        self._handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Handle signals from here on."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._handle) for number in NUMBERS}

    def restore(self) -> None:
        """Leave them to whoever handled them before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def raise_pending(self) -> None:
        """Raise the signal that was deferred, if any: to be called where a run's state is complete.

        Raises:
            Interrupted: If so.
        """
        if self.pending is not None:
            raise self.pending

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.ignored:
            return
        if self.pending is not None or not self.deferred:
            raise Interrupted(number)
        self.pending = Interrupted(number)
        if not self._quiet:
            told = f"{self.pending}: ending with a checkpoint; once more to end at once"
            print(told, file=sys.stderr, flush=True)
