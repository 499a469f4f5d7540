"""What a user can mend, and what a user or a scheduler asked for."""

import difflib
import errno
import signal
from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave cannot be used; says what was expected, what came, and what to do.

    The commands print it as one line and exit with status 2 before a run or a folder exists.

    Args:
        where: The setting, file or column at fault, e.g. ``data.window``.
        expected: What would have been right, as a noun phrase.
        received: What came instead.
        remedy: What to do about it, as an imperative sentence; may be empty.

    >>> print(InputError("data.window", expected="an integer > 0", received="-1"))
    data.window: expected an integer > 0, received -1
    """

    def __init__(self, where: str, *, expected: str, received: str, remedy: str = "") -> None:
        self.where, self.expected, self.received, self.remedy = where, expected, received, remedy
        text = f"{where}: expected {expected}, received {received}" + (f". {remedy}" if remedy else "")
        super().__init__(" ".join(text.split()))


def nearest(name: str, valid: Iterable[str]) -> str:
    """Says which valid name was probably meant, or lists a few when none is near.

    >>> nearest("max_epoch", ["max_epochs", "precision"])
    "Did you mean 'max_epochs'?"
    """
    names = list(valid)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if match:
        return f"Did you mean {match[0]!r}?"
    return f"Valid: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}." if names else ""


def full_disk(error: BaseException | None) -> OSError | None:
    """The full disk behind an error, where that is the reason: torch's own says nothing of it.

    >>> full_disk(OSError(errno.ENOSPC, "No space left on device")).strerror
    'No space left on device'
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


class Interrupted(BaseException):  # like KeyboardInterrupt: not an error
    """The process was asked to end by a signal.

    >>> Interrupted(15).exit_status
    143
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
