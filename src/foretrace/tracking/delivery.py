"""From the journal to the tracker, on a thread of its own: training waits for no server."""

import sys
import threading
from collections.abc import Callable, Iterator

import requests
from mlflow.exceptions import MlflowException

from foretrace.tracking.journal import Journal, Record

LONGEST_PAUSE_S = 15.0  # between two attempts at a store that does not answer
# A store that answers so will never take the record. All else is taken for an outage.
REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}


class Delivery:
    """Tells the tracker what the journal holds, in order, and keeps trying while the tracker is away.

    Args:
        journal: What is to be told.
        tell: Tells one record; raises if the store did not take it.
    """

    def __init__(self, journal: Journal, tell: Callable[[Record], None]) -> None:
        self._journal, self._tell = journal, tell
        self._changed = threading.Condition()
        self._asked = self._done = 0  # calls of `wake`, and how many of them are dealt with
        self._ending = False
        self._refusal: Exception | None = None
        self.away = False
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that the journal has grown.

        Raises:
            MlflowException: If the store refused an earlier record, e.g. as the run was deleted.
        """
        if self._refusal is not None:
            raise self._refusal
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Waits until all is delivered, but not for a store that is away. Whether all was delivered."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or self.away or self._refusal is not None, seconds)
            return self._is_done

    def end(self, seconds: float) -> bool:
        """Delivers what is left and stops; gives up after a while. Whether all was delivered."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(seconds)
        return self._is_done

    @property
    def _is_done(self) -> bool:
        return self._done == self._asked

    def _work(self) -> None:
        pauses = _pauses()
        while self._refusal is None:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_done or self._ending)
                asked = self._asked
                if self._is_done:
                    return
            try:
                deliver(self._journal, self._tell)
            except Exception as error:
                self._failed(error, next(pauses))
                continue
            pauses = _pauses()
            self._answered(asked)

    def _failed(self, error: Exception, pause_s: float) -> None:
        refused = is_refusal(error)
        if not self.away and not refused:
            reason = " ".join(str(error).split())[:160]
            print(f"the tracking store does not answer; records wait on disk ({reason})", file=sys.stderr)
        with self._changed:
            self._refusal, self.away = (error, False) if refused else (None, True)
            self._changed.notify_all()
            if not refused:
                self._changed.wait(min(pause_s, 1.0) if self._ending else pause_s)

    def _answered(self, asked: int) -> None:
        if self.away:
            print("the tracking store answers again; what waited is delivered", file=sys.stderr)
        with self._changed:
            self._done, self.away = asked, False
            self._changed.notify_all()


def deliver(journal: Journal, tell: Callable[[Record], None]) -> int:
    """Tells everything that waits; returns how many records that were.

    Raises:
        Exception: Whatever ``tell`` raises; what was told before stays noted.
    """
    number = 0
    for record, end in journal.pending():
        tell(record)
        journal.note_delivered(end)
        number += 1
    return number


def is_refusal(error: Exception) -> bool:
    """Whether trying again later is of no use."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    return not isinstance(error, OSError | requests.RequestException)


def _pauses() -> Iterator[float]:
    pause = 0.5
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_S)
