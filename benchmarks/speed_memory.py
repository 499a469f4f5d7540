"""Training on data that lie on disk: memory and speed with 80 MB and with 8 GB, as an array, CSV and Parquet.

As a command, ``speed_memory.py PATH``, it is one of the training runs; else see speed.py.
"""

import io
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from speed_rows import REPEATS, Row, folder, ratios, settings
from speed_steps import WARM, stepper

from foretrace.config import TrainConfig
from foretrace.data import sources
from foretrace.data.sources import WindowDataModule
from foretrace.training.hardware import retain_freed_memory
from foretrace.training.module import build_module

FEATURES, STEPS, BATCHES = 17, 1000, 300
SIZES_MB = (80, 8000)
PARQUET_MB = 27  # of one file: 8 GB are 300 of them


def rows(*, quick: bool) -> Iterator[Row]:
    """Memory and speed, each as a ratio of the larger to the smaller; of text and Parquet at their first reading."""
    sizes = [size // 100 for size in SIZES_MB] if quick else SIZES_MB
    for kind, write, repeats in (
        ("array", _write_array, REPEATS),
        ("CSV", _write_csv, 1),
        ("Parquet", _write_parquet, 1),
    ):
        with folder() as root:
            paths = [write(root / str(number), size) for number, size in enumerate(sizes)]
            pairs = [[_measure(path) for path in paths] for _ in range(1 if quick else repeats)]
        smaller, larger = ([pair[n] for pair in pairs] for n in (0, 1))
        for name, key, aim, unit in (
            ("peak memory", "peak_mb", "≤ 1.15", "MB"),
            ("windows a second", "rate", "≥ 0.95", ""),
            ("time until the data can be used", "read_s", "", "s"),
        ):
            above, below = ([one[key] for one in ones] for ones in (larger, smaller))
            note = f"{np.median(above):,.0f} / {np.median(below):,.0f} {unit}".strip()
            yield Row(f"{name}, {kind} of 8 GB / of 80 MB", aim, ratios(above, below), note=note)


def _write_csv(path: Path, megabytes: int) -> Path:
    """Write one file of 17 columns, the same rows again and again."""
    block = pd.DataFrame(_episodes(5).reshape(-1, FEATURES)).add_prefix("x")
    header, _, text = block.to_csv(index=False, float_format="%.5g").partition("\n")
    with path.with_suffix(".csv").open("w") as file:
        file.write(f"{header}\n")
        file.writelines(text for _ in range(max(1, round(megabytes * 1e6 / len(text)))))
    return Path(file.name)


def _write_parquet(path: Path, megabytes: int) -> Path:
    """Write a folder of files, each a recording."""
    path.mkdir()
    rows = round(PARQUET_MB * 1e6 / (4 * FEATURES) / STEPS)
    pd.DataFrame(_episodes(rows).reshape(-1, FEATURES)).add_prefix("x").to_parquet(
        path / "0.parquet", index=False
    )
    for number in range(1, max(1, round(megabytes / PARQUET_MB))):
        shutil.copyfile(path / "0.parquet", path / f"{number}.parquet")
    return path


def _episodes(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, STEPS, FEATURES)).astype(np.float32).cumsum(axis=1)


def _write_array(path: Path, megabytes: int) -> Path:
    """Write episodes of 1000 rows, the same few again and again."""
    path, block = path.with_suffix(".npy"), _episodes(50)
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
    config = settings("data=files", f"data.path={path}", "model.hidden_sizes=[64]")
    with (
        redirect_stderr(io.StringIO()),
        retain_freed_memory(torch.device("cpu")),
        TemporaryDirectory(dir=Path(path).parent) as cache,
    ):
        began = time.perf_counter()
        data = sources.load(config.data, cache=Path(cache), seed=config.seed)
        read_s = time.perf_counter() - began
        rate = _rate(config, data)
    print(json.dumps({"peak_mb": peak.mb, "rate": rate, "read_s": read_s}))


def _rate(config: TrainConfig, data: WindowDataModule) -> float:
    """Windows a second of bare training steps on batches as the data path makes them."""
    data.windows["train"].sequences.digest  # noqa: B018  # a run records it
    model = build_module(config, data).model
    step = stepper(model, torch.optim.Adam(model.parameters(), lr=config.optimizer.lr), mixed=False)
    loader, began = data.train_dataloader(), 0.0
    batches = chain.from_iterable(repeat(loader))  # epoch after epoch; cycle() would keep all of the first
    for number in range(WARM + BATCHES):
        began = time.perf_counter() if number == WARM else began
        batch = next(batches)
        step(model.scaling(batch.values), model.scaling(batch.targets))
    return BATCHES * config.data.batch_size / (time.perf_counter() - began)


if __name__ == "__main__":
    train(sys.argv[1])
