"""Errors that a user can fix, and requests to stop."""

import difflib
import errno
import signal
import unicodedata
from collections.abc import Iterable

LONGEST = 300  # characters of each part of a message: files hold values of any length
# Marks that turn the direction of what follows them: a name could rewrite the message around it.
DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UserError(ValueError):
    """A mistake that the user can fix: one sentence that says what is wrong, and a hint at what to do.

    The commands print it as one line and exit with status 2 before a run or a folder exists. Whatever the user
    gave, the line has a readable length and holds nothing that a terminal would obey.

    Args:
        message: What is wrong, as a sentence without its period, e.g. ``trainer.max_epoch: unknown setting``.
        hint: What to do about it, as a sentence; may be empty.

    >>> print(UserError("trainer.max_epoch: unknown setting", hint="Did you mean trainer.max_epochs?"))
    trainer.max_epoch: unknown setting. Did you mean trainer.max_epochs?
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(sanitize(message, longest=3 * LONGEST) + (f". {sanitize(hint)}" if hint else ""))


def is_plain(character: str) -> bool:
    """Tell whether a character is no control character, half of a surrogate pair, or change of direction."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and character not in DIRECTIONS


def sanitize(text: str, *, longest: int = LONGEST) -> str:
    r"""Return a text on one line, without its middle if it is long, and with escapes for what is not `is_plain`.

    >>> sanitize("two\nlines and \x1b[31mred")
    'two lines and \\x1b[31mred'
    """
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} … {text[-longest // 3 :]}"
    line = " ".join(text.split())
    return "".join(c if is_plain(c) else c.encode("unicode_escape").decode("ascii") for c in line)


def suggest(name: str, valid: Iterable[str]) -> str:
    """Say which valid name was probably meant, or list a few when none is near.

    >>> suggest("max_epoch", ["max_epochs", "precision"])
    'Did you mean max_epochs?'
    """
    names = list(valid)
    match = difflib.get_close_matches(name[:LONGEST], names[:1000], n=1, cutoff=0.6)  # each takes time
    if match:
        return f"Did you mean {match[0]}?"
    shown = ", ".join(sanitize(one, longest=30) for one in names[:12])
    return f"Valid: {shown}{', …' if len(names) > 12 else ''}." if names else ""


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the full disk behind an error, where that is the reason: torch's own error says nothing of it.

    >>> full_disk(OSError(errno.ENOSPC, "No space left on device")).strerror
    'No space left on device'
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


class DivergedError(ArithmeticError):
    """Training produced numbers that are not finite; says where that began, and what to try."""


class Interrupted(BaseException):  # like KeyboardInterrupt: not an error
    """The process was asked to end by a signal.

    >>> Interrupted(15).exit_status
    143
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
