"""Training on data that lie on disk: memory and speed with 80 MB and with 8 GB.

As a command, ``speed_memory.py FILE``, it is one of the two trainings; else see speed.py.
"""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch
from speed_rows import REPEATS, Row, folder, ratios, settings
from speed_steps import bare_from

from foretrace.training.hardware import retain_freed_memory

FEATURES, STEPS, BATCHES = 17, 1000, 300
SIZES_MB = (80, 8000)


def rows(*, quick: bool) -> Iterator[Row]:
    """Memory and speed, each as a ratio of the larger to the smaller."""
    with folder() as root:
        files = [_write(root / f"{size}.npy", size // (100 if quick else 1)) for size in SIZES_MB]
        pairs = [[_measure(file) for file in files] for _ in range(1 if quick else REPEATS)]
    smaller, larger = ([pair[n] for pair in pairs] for n in (0, 1))
    for name, key, aim, unit in (
        ("peak memory", "peak_mb", "≤ 1.15", "MB"),
        ("windows a second", "rate", "≥ 0.95", ""),
    ):
        above, below = ([one[key] for one in ones] for ones in (larger, smaller))
        note = f"{np.median(above):,.0f} / {np.median(below):,.0f} {unit}".strip()
        yield Row(f"{name}, data of 8 GB / of 80 MB, mapped", aim, ratios(above, below), note=note)


def _write(path: Path, megabytes: int) -> Path:
    """Episodes of 1000 rows, the same few again and again."""
    block = np.random.default_rng(0).normal(size=(50, STEPS, FEATURES)).astype(np.float32).cumsum(axis=1)
    blocks = max(1, round(megabytes * 1e6 / block.nbytes))
    values = np.lib.format.open_memmap(path, "w+", np.float32, (50 * blocks, STEPS, FEATURES))
    for first in range(0, len(values), 50):
        values[first : first + 50] = block
    return path


def _measure(path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class Peak(threading.Thread):
    """Largest memory of this process's own; pages of a mapped file are the system's, and go when it needs them."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mb = 0.0

    def run(self) -> None:
        """Look every 20 ms."""
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.mb = max(self.mb, kilobytes / 1000)
            time.sleep(0.02)


def train(path: str) -> None:
    """Read the file as a run does, and train some batches from all over it."""
    peak = Peak()
    peak.start()
    config = settings("data=files", f"data.path={path}", "model.hidden_sizes=[64]", "data.split_by=episode")
    with redirect_stderr(io.StringIO()), retain_freed_memory(torch.device("cpu")):
        rate = bare_from(config, BATCHES)
    print(json.dumps({"peak_mb": peak.mb, "rate": rate}))


if __name__ == "__main__":
    train(sys.argv[1])
