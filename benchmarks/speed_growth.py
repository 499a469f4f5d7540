"""Time against the size of each thing that can grow, as a picture: straight lines, or a reason why not."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from matplotlib.figure import Figure
from speed_rows import ROOT, Row
from speed_steps import stepper

from foretrace.data.sequences import Sequences
from foretrace.data.windows import WindowLoader, Windows
from foretrace.model.next_step import NextStepModel
from foretrace.training.hardware import retain_freed_memory

PICTURE = ROOT / "docs" / "images" / "performance_growth.png"
FEATURES = 17


def step_ms(*, window: int = 50, batch: int = 64, width: int = 64) -> float:
    """Time a bare training step of one layer; median of several."""
    model = NextStepModel(hidden_sizes=[width], num_features=FEATURES)
    step = stepper(model, torch.optim.Adam(model.parameters()), mixed=False)
    x = torch.randn(batch, window, FEATURES)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        step(x, x)
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times[2:]))


def data_ms(*, episodes: int) -> float:
    """Scaling of episodes of 100 rows, their windows, and an epoch's batches."""
    values = np.random.default_rng(0).normal(size=(100 * episodes, FEATURES)).astype(np.float32)
    names = [f"{number}" for number in range(FEATURES)]
    made = Sequences.from_episodes(values.reshape(episodes, 100, FEATURES), feature_names=names)
    began = time.perf_counter()
    made.statistics  # noqa: B018
    loader = WindowLoader(Windows(made, length=50, stride=25), batch_size=256, seed=1, random_offset=True)
    for _ in loader:
        pass
    return 1000 * (time.perf_counter() - began)


SWEEPS: dict[str, tuple[Callable[..., float], tuple[int, ...]]] = {
    "window": (step_ms, (25, 50, 100, 200, 400, 800)),
    "batch": (step_ms, (16, 32, 64, 128, 256, 512, 1024)),
    "width": (step_ms, (64, 128, 256, 512, 1024)),
    "episodes": (data_ms, (100, 1000, 10_000, 100_000)),
}


def rows(*, quick: bool) -> Iterator[Row]:
    """Fit each line's slope on logarithmic axes over its larger half, where overhead is small; draw it."""
    figure = Figure(figsize=(8.2, 6), dpi=110, layout="constrained")
    for axes, (name, (measure, sizes)) in zip(figure.subplots(2, 2).flat, SWEEPS.items(), strict=True):
        sizes = sizes[:3] if quick else sizes
        with retain_freed_memory(torch.device("cpu")):
            times = [measure(**{name: size}) for size in sizes]
        axes.loglog(sizes, times, "o-", color="#0072B2")
        power = 2 if name == "width" else 1
        axes.loglog(sizes, [times[-1] * (s / sizes[-1]) ** power for s in sizes], "--", color="#666666")
        axes.set(
            xlabel=name, ylabel="ms", title=f"dashed: in proportion to {name}{'²' if power == 2 else ''}"
        )
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        half = len(sizes) // 2
        slope = float(np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0])
        note = ", ".join(f"{size:,}: {ms:.3g} ms" for size, ms in zip(sizes, times, strict=True))
        yield Row(f"slope of time against {name}, on logarithmic axes", f"{power}", [slope], note=note)
    if not quick:
        figure.savefig(PICTURE)
