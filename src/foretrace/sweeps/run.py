"""A sweep from its first job to its last line."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from foretrace.errors import sanitize
from foretrace.sweeps.children import VALID, Child
from foretrace.sweeps.jobs import brief
from foretrace.sweeps.parent import Sweep
from foretrace.sweeps.workers import Worker, work_off
from foretrace.tracking import store

FAILED = 1  # exit status of a sweep of which a job failed
KILLED = (130, 137, 143)  # exit statuses of a process that a signal ended, beside those below 0
RETRIES = 2  # of a job that was killed: a third time it would hardly be chance
WAIT_S = 5.0  # from one question to a store that is away to the next


class UnfinishedError(RuntimeError):
    """Jobs of a sweep failed, or were left out."""


class Queue(Protocol):
    """The jobs of a sweep that are not done; in all there are ``number``."""

    number: int

    def propose(self) -> Child | None:
        """Return the next job, with its run if it has one; None if there is none at the moment."""

    def again(self, child: Child) -> None:
        """Take up a job that was killed."""

    def tell(self, child: Child) -> None:
        """Learn what became of a job."""


class Grid:
    """The jobs of a sweep that knows them all.

    Args:
        sweep: Its parent run.
    """

    def __init__(self, sweep: Sweep) -> None:
        children = sweep.children()
        self.number = len(children)
        self._left = deque(child for child in children if not child.is_done and not child.at_work)

    def propose(self) -> Child | None:
        """Return the next job, with its run if it has one."""
        return self._left.popleft() if self._left else None

    def again(self, child: Child) -> None:
        """Take up a job that was killed."""
        self._left.append(child)

    def tell(self, child: Child) -> None:
        """Do nothing: the tracking store knows."""


def run(
    sweep: Sweep,
    make_queue: Callable[[Sweep], Queue],
    start: Callable[[Sequence[str]], Worker],
    *,
    places: int,
) -> int:
    """Do what is missing of a sweep and return the exit status.

    Args:
        sweep: The sweep, begun or reopened.
        make_queue: Returns its jobs that are not done.
        start: Begins a job, from its overrides.
        places: How many jobs are at work at once.
    """
    number, tries = None, Counter[object]()
    try:
        with sweep:
            queue = make_queue(sweep)
            number, done = queue.number, 0
            for child in sweep.children():
                done += child.is_done
                if child.at_work:
                    told = f"run {child.run_id} is at work in another process, and left alone"
                    print(f"job      {brief(child.job, sweep.names)}: {told}", file=sys.stderr)
            known = f", {done} of them done before" if done else ""
            print(f"sweep    {sweep.id}: {number} jobs{known}, {places} at a time", flush=True)

            def begin(child: Child) -> Worker:
                resumed = f": resumes run {child.run_id}" if child.has_checkpoint else ""
                print(f"job      {brief(child.job, sweep.names)}{resumed}", flush=True)
                return start(sweep.overrides(child))

            def conclude(before: Child, status: int) -> None:
                child = _outcome(sweep, before)
                tries[child.key] += 1
                if not child.is_done and child.status != "FAILED":
                    if (status < 0 or status in KILLED) and tries[child.key] <= RETRIES:
                        print(f"killed   {brief(child.job, sweep.names)}: taken up again", file=sys.stderr)
                        return queue.again(child)
                    sweep.failures[child.job] = f"ended without a result, exit status {status}"
                queue.tell(child)
                _tell(sweep, child)
                return sweep.refresh()

            work_off(queue.propose, begin, conclude, places=places)
            if sum(child.is_done for child in sweep.children()) < number:
                raise UnfinishedError(sweep.summary().verdict(number))
    except UnfinishedError:
        return FAILED
    finally:
        if number is not None:
            _tell_end(sweep, number)
    return 0


def _outcome(sweep: Sweep, child: Child) -> Child:
    """Return a job that has ended as the tracking store has it, which is waited for."""
    while True:
        try:
            sweep.recover()
            return sweep.begun().get(child.key, child)
        except store.NO_ANSWER as error:
            print(
                f"the sweep waits for the tracking store: {store.unavailable(error)}",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(WAIT_S)


def _tell(sweep: Sweep, child: Child) -> None:
    error = sanitize(child.error or sweep.failures.get(child.job, ""), longest=200)
    result = f"{VALID}={child.metrics[VALID]:.6g}" if child.is_done and VALID in child.metrics else error
    line = f"{child.status.lower():<8} {brief(child.job, sweep.names)}: {result}, run {child.run_id}"
    print(line, file=sys.stdout if child.is_done else sys.stderr, flush=True)


def _tell_end(sweep: Sweep, number: int) -> None:
    summary = sweep.summary()
    print(summary.text().to_string(index=False))
    print(f"tables   {sweep.tracked.folder / 'summary.csv'}, children.csv")
    if summary.counts["done"] < number:
        print(f"what is missing: python src/train.py sweep.resume={sweep.id}")
    print(f"sweep={sweep.id} status={sweep.tracked.status} {summary.verdict(number)}", flush=True)
