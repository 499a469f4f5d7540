"""How well a sweep fills its places: jobs that only sleep, so that the processor does not matter."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from speed_rows import Row, folder

from foretrace.config import Tracking
from foretrace.sweeps.sweep import begin, run
from foretrace.workspace import Workspace

PLACES, JOBS, SHORTEST_S = 2, 16, 0.4


def rows(*, quick: bool) -> Iterator[Row]:
    """Compare the time of a whole sweep to that of a schedule without any gap."""
    lengths = [SHORTEST_S * (number + 1) * (0.1 if quick else 1) for number in range(JOBS)]
    ideal = sum(lengths) / PLACES
    took = []
    with folder() as root:
        for repeat in range(1 if quick else 3):
            took.append(_sweep(root, np.random.default_rng(repeat).permutation(lengths)))
    name = f"{JOBS} jobs of {SHORTEST_S:g} to {SHORTEST_S * JOBS:g} s on {PLACES} places / the ideal schedule"
    note = f"{', '.join(f'{seconds:.1f}' for seconds in took)} / {ideal:.1f} s"
    yield Row(name, "≤ 1.15", [seconds / ideal for seconds in took], note=note)


def _sweep(root: Path, lengths: Sequence[float]) -> float:
    """Seconds that a sweep is at work. Its jobs leave no run; the tracking store is asked for one all the same."""

    def start(overrides: Sequence[str]) -> subprocess.Popen[bytes]:
        number = int(overrides[0].removeprefix("seed="))
        return subprocess.Popen(["sleep", f"{lengths[number]}"])  # noqa: S603, S607

    record = {"jobs": [[f"seed={number}"] for number in range(len(lengths))]}
    tracking = Tracking(uri=None, experiment="sweeps", run_name=None, tags=None)
    sweep = begin(record, tracking=tracking, workspace=Workspace(root), command=[])
    began = time.monotonic()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        run(sweep, start, places=PLACES)
    return time.monotonic() - began
