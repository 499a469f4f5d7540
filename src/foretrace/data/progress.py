"""How far something that takes minutes has come, on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

EVERY_S = 30.0  # between two lines, where that is no terminal
DELAY_S = 1.0  # what is done sooner has no bar

Item = TypeVar("Item")

_shown = ContextVar("shown", default=False)


@contextmanager
def show_progress(shown: bool = True) -> Iterator[None]:
    """Show the progress of all loops within, where it is wanted."""
    token = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(token)


def track(items: Iterable[Item], what: str) -> Iterator[Item]:
    """Iterate, and show how far ``what`` is: as a bar on a terminal, else as a line every half minute."""
    if not _shown.get():
        yield from items
    elif sys.stderr.isatty():
        yield from tqdm(items, desc=what, delay=DELAY_S, leave=False, dynamic_ncols=True, file=sys.stderr)
    else:
        told, total = time.monotonic(), f"/{len(items)}" if isinstance(items, Sized) else ""
        for number, item in enumerate(items):
            if time.monotonic() - told > EVERY_S:
                told = time.monotonic()
                print(f"{what}: {number}{total}", file=sys.stderr, flush=True)
            yield item
