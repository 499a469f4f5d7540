"""A sweep from its first job to its last line."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from foretrace.errors import sanitize
from foretrace.sweeps.children import VALID, Child
from foretrace.sweeps.jobs import brief
from foretrace.sweeps.sweep import Sweep
from foretrace.sweeps.workers import Worker, work_off
from foretrace.tracking.stored import NO_ANSWER, unavailable

KILLED = (130, 137, 143)  # exit statuses of a process that a signal ended, beside those below 0
RETRIES = 2  # of a job that was killed: a third time it would hardly be chance
WAIT_S = 5.0  # from one question to a store that is away to the next


class UnfinishedError(RuntimeError):
    """Jobs of a sweep failed, or were left out."""


def run(sweep: Sweep, start: Callable[[Sequence[str]], Worker], *, places: int) -> int:
    """Do what is missing of a sweep, ``places`` jobs at once, each begun by ``start`` from its overrides.

    Return the exit status: 1 if something is still missing.
    """
    tries, is_open = Counter[object](), False

    def begin(child: Child) -> Worker:
        resumed = f": resumes run {child.run_id}" if child.has_checkpoint else ""
        print(f"job      {brief(child.job, sweep.names)}{resumed}", flush=True)
        return start(sweep.overrides(child))

    def conclude(before: Child, status: int) -> None:
        child, name = _outcome(sweep, before), brief(before.job, sweep.names)
        tries[child.key] += 1
        if not child.has_ended:
            if (status < 0 or status in KILLED) and tries[child.key] <= RETRIES:
                print(f"killed   {name}: taken up again", file=sys.stderr)
                return sweep.again(child)
            child = sweep.fail(child, f"ended without a result, exit status {status}")
        sweep.tell(child)
        result = sanitize(child.error, longest=200)
        if child.is_done and VALID in child.metrics:
            result = f"{VALID}={child.metrics[VALID]:.6g}"
        line = f"{child.status.lower():<8} {name}: {result}, run {child.run_id}"
        print(line, file=sys.stdout if child.is_done else sys.stderr, flush=True)
        return sweep.refresh()

    try:
        with sweep:
            is_open, children = True, sweep.children()
            for child in (child for child in children if child.at_work):
                told = f"run {child.run_id} is at work in another process, and left alone"
                print(f"job      {brief(child.job, sweep.names)}: {told}", file=sys.stderr)
            known = sum(child.is_done for child in children)
            done = f", {known} of them done before" if known else ""
            print(f"sweep    {sweep.id}: {sweep.number} jobs{done}, {places} at a time", flush=True)
            work_off(sweep.propose, begin, conclude, places=places)
            if sum(child.is_done for child in sweep.children()) < sweep.number:
                raise UnfinishedError(sweep.summary().verdict(sweep.number))
    except UnfinishedError:
        return 1
    finally:
        if is_open:
            summary = sweep.summary()
            print(summary.text().to_string(index=False))
            print(f"tables   {sweep.tracked.folder / 'summary.csv'}, children.csv")
            if summary.counts["done"] < sweep.number:
                print(f"what is missing: python src/train.py sweep.resume={sweep.id}")
            verdict = summary.verdict(sweep.number)
            print(f"sweep={sweep.id} status={sweep.tracked.status} {verdict}", flush=True)
    return 0


def _outcome(sweep: Sweep, child: Child) -> Child:
    """Return a job that has ended as the tracking store has it, which is waited for."""
    while True:
        try:
            sweep.recover()
            return sweep.begun().get(child.key, child)
        except NO_ANSWER as error:
            told = f"the sweep waits for the tracking store: {unavailable(error)}"
            print(told, file=sys.stderr, flush=True)
            time.sleep(WAIT_S)
