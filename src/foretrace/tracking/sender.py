"""From the journal to the tracker, on a thread of its own: training waits for no server."""

import sys
import threading
import time
from collections.abc import Callable, Iterator

import requests
from mlflow.exceptions import MlflowException

from foretrace.tracking.outbox import Outbox, Record

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


class Sender:
    """Tells the tracker what the journal holds, in order, and keeps trying while the tracker is away.

    Args:
        journal: What is to be told.
        tell: Tells one record; raises if the store did not take it.
    """

    def __init__(self, journal: Outbox, tell: Callable[[Record], None]) -> None:
        self._journal, self._tell = journal, tell
        self._told_at = time.monotonic()
        self._changed = threading.Condition()
        self._asked = self._done = 0  # calls of `wake`, and how many of them are dealt with
        self._ending = False
        self._refusal: Exception | None = None
        self.away = False
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that the journal has grown."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def check(self) -> None:
        """Raises what the store refused, once.

        Raises:
            Exception: If it refused a record, e.g. as the run was deleted. The record is set aside.
        """
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def wait(self, seconds: float) -> bool:
        """Waits until all is delivered, but not for a store that is away. Whether all was delivered."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or self.away, seconds)
            return self._is_done

    def end(self, *, away_s: float, slow_s: float) -> bool:
        """Delivers what is left and stops. Whether all was delivered.

        Args:
            away_s: How long it tries while the store does not answer.
            slow_s: How long one record may take, e.g. the upload of a large file.
        """
        self._told_at = time.monotonic()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        while self._thread.is_alive():
            if time.monotonic() - self._told_at > (away_s if self.away else slow_s):
                break
            self._thread.join(0.2)
        return self._is_done

    @property
    def _is_done(self) -> bool:
        return self._done == self._asked

    def _work(self) -> None:
        pauses = _pauses()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_done or self._ending)
                asked = self._asked
                if self._is_done:
                    return
            try:
                deliver(self._journal, self._tell_one, self._refused)
            except Exception as error:
                self._failed(error, next(pauses))
                continue
            pauses = _pauses()
            self._answered(asked)

    def _tell_one(self, record: Record) -> None:
        try:
            self._tell(record)
        finally:
            if not self.away:
                self._told_at = time.monotonic()

    def _refused(self, error: Exception) -> None:
        self._refusal = self._refusal or error

    def _failed(self, error: Exception, pause_s: float) -> None:
        if not self.away:
            reason = " ".join(str(error).split())[:160]
            print(f"the tracking store does not answer; records wait on disk ({reason})", file=sys.stderr)
        with self._changed:
            self.away = True
            self._changed.notify_all()
            self._changed.wait(min(pause_s, 1.0) if self._ending else pause_s)

    def _answered(self, asked: int) -> None:
        if self.away:
            print("the tracking store answers again; what waited is delivered", file=sys.stderr)
        with self._changed:
            self._done, self.away = asked, False
            self._changed.notify_all()


def deliver(journal: Outbox, tell: Callable[[Record], None], refused: Callable[[Exception], None]) -> int:
    """Tells everything that waits; returns how many records that were.

    Args:
        journal: What waits. A record that the store will never take is set aside there and blocks no other.
        tell: Tells one record.
        refused: Told of each refusal.

    Raises:
        Exception: Whatever ``tell`` raises in an outage; what was told before stays noted.
    """
    number = 0
    for record, end in journal.pending():
        try:
            tell(record)
        except Exception as error:
            if not is_refusal(error):
                raise
            journal.quarantine(record, f"{type(error).__name__}: {error}")
            refused(error)
        journal.commit_delivered(end)
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
