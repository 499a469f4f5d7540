"""Processor time from the settings to the first batch, and the memory of it, against the rows of a file.

As a command, ``speed_size.py FILE``, it is one of the starts; else see speed.py.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from speed_memory import Peak
from speed_rows import Row, folder, settings
from speed_steps import load

FEATURES, STEPS, AT_ONCE = 4, 1000, 1000
SIZES = (10**6, 10**7, 10**8)


def rows(*, quick: bool) -> Iterator[Row]:
    """Measure what each tenfold size costs; the slope is over the larger sizes, where fixed costs do not show."""
    found = []
    with folder() as root:
        for size in SIZES[:2] if quick else SIZES:
            file = _write(root / f"{size}.npy", size)
            found.append((size, _start(file)))
            file.unlink()
    (before, less), (after, more) = found[-2:]
    slope = np.log(more["seconds"] / less["seconds"]) / np.log(after / before)
    told = ", ".join(f"{size:,.0f}: {one['seconds']:.2f} s" for size, one in found)
    yield Row(
        "slope of the start's processor time against rows, on logarithmic axes",
        "1",
        [float(slope)],
        note=told,
    )
    told = ", ".join(f"{size:,.0f}: {one['mb']:.0f} MB" for size, one in found)
    growth = found[-1][1]["mb"] - found[0][1]["mb"]
    yield Row("memory that a hundredfold file adds", "≤ 50 MB", [growth], "MB", note=told)


def _write(path: Path, size: int) -> Path:
    """Episodes of 1000 rows of four features: 1.6 GB for 10⁸ rows."""
    generator, episodes = np.random.default_rng(0), size // STEPS
    values = np.lib.format.open_memmap(path, "w+", np.float32, (episodes, STEPS, FEATURES))
    for first in range(0, episodes, AT_ONCE):
        values[first : first + AT_ONCE] = generator.standard_normal((AT_ONCE, STEPS, FEATURES), np.float32)
    return path


def _start(path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def start(path: str) -> None:
    """Read a file as a run does, measure and hash its parts, and take a shuffled batch."""
    config = settings("data=files", f"data.path={path}", "data.split_by=episode", "data.stride=1")
    peak, began = Peak(), time.process_time()
    peak.start()
    data = load(config)
    for windows in data.windows.values():
        windows.sequences.digest  # noqa: B018  # with the statistics
    next(iter(data.train_dataloader()))
    time.sleep(0.05)
    print(json.dumps({"seconds": time.process_time() - began, "mb": peak.mb}))


if __name__ == "__main__":
    start(sys.argv[1])
