"""What the rows of docs/performance.md are made of: two things timed in turn, and their ratio."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from foretrace.commands import cli  # noqa: F401  # registers a resolver that conf/ uses
from foretrace.config import TrainConfig, parse
from foretrace.workspace import CHECKOUT

ROOT = Path(__file__).parents[1]
SMALL = ("model.hidden_sizes=[32]", "data.batch_size=32", "data.stride=5")
REPEATS = 5


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: What is measured.
        aim: What was aimed for, as text; empty where the figure is only shown.
        values: One per repetition; of a ratio, one per pair.
        unit: Behind each value; empty for a ratio.
        note: The figures that a ratio is made of, and what explains it.
    """

    name: str
    aim: str
    values: Sequence[float]
    unit: str = ""
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def settings(*overrides: str) -> TrainConfig:
    """Return what ``conf/train.yaml`` composes to, checked."""
    assert CHECKOUT == ROOT, "the benchmark measures its own checkout"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse.parse(compose("train", overrides=["trainer.precision=32-true", *overrides]), TrainConfig)


def in_turn(
    ours: Callable[[], float], other: Callable[[], float], repeats: int = REPEATS
) -> tuple[list[float], list[float]]:
    """Seconds of both, measured one after the other so that both meet the same machine."""
    pairs = [(ours(), other()) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Pair by pair."""
    return [a / b for a, b in zip(above, below, strict=True)]


def milliseconds(seconds: Sequence[float]) -> str:
    """Return the median."""
    return f"{1000 * float(np.median(seconds)):.3g} ms"


def seconds_of(run: Callable[[], Any], times: int) -> float:
    """Of one call, after one that is not counted."""
    run()
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times


@contextmanager
def folder() -> Iterator[Path]:
    """One that is gone afterwards."""
    with TemporaryDirectory(prefix="foretrace-speed-") as name:
        yield Path(name)
