"""A peer's training under the same clock as all others: how fast it is, and when it is good enough.

Of NumPy alone, as every peer's environment has it. Shapes: W windows, T steps, F features, E episodes.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
WARM = 2  # segments before rates count: compilation and cold caches are in them


@dataclass(frozen=True)
class Plan:
    """What all peers are given.

    Args:
        data: Folder of train.npy and test.npy, standardised recordings (E, rows, F).
        window: Steps that are read, T.
        batch: Windows in a step of training.
        hidden_sizes: Of our network's layers.
        target: Test MSE to reach.
        limit_s: Longest training.
        segment: Steps of training between two looks at clock and test error.
        segments: To be timed at least.
        precision: Of foretrace's training, as `trainer.precision` has it.
        overrides: Of foretrace's settings.
    """

    data: str
    window: int
    batch: int
    hidden_sizes: list[int]
    target: float
    limit_s: float
    segment: int
    segments: int
    precision: str = "32-true"
    overrides: tuple[str, ...] = ()

    @classmethod
    def given(cls) -> "Plan":
        """Return the one that this process was started with."""
        return cls(**json.loads(sys.argv[1]))

    def episodes(self, part: str) -> Array:
        """Shape (E, rows, F)."""
        values: Array = np.load(Path(self.data) / f"{part}.npy")
        return values

    def windows(self, part: str, *, stride: int) -> tuple[Array, Array]:
        """Windows and what came one step after each of their steps, each (W, T, F)."""
        rows = np.lib.stride_tricks.sliding_window_view(self.episodes(part), self.window + 1, axis=1)
        pairs = np.ascontiguousarray(rows[:, ::stride].reshape(-1, *rows.shape[2:]).transpose(0, 2, 1))
        return pairs[:, :-1], pairs[:, 1:]

    def width(self, parameters: Callable[[int], int], aim: int) -> int:
        """Return the layer size with which a network of equal layers has the number of parameters that ours has."""
        return min(range(1, 2000), key=lambda size: abs(parameters(size) - aim))

    def parameters(self, features: int) -> int:
        """Of our network: layers of torch's LSTM, one after the other, and a linear one.

        >>> Plan("", 50, 256, [128, 256, 512], 0.0, 0.0, 10, 5).parameters(17)
        2056209
        """
        sizes = [features, *self.hidden_sizes]
        layers = (4 * b * (a + b + 2) for a, b in pairwise(sizes))
        return sum(layers) + features * (sizes[-1] + 1)


class Trial:
    """Watches one training. Time spent on the test error is not counted, nor what `pause` leaves out of rates.

    Args:
        plan: What was given.
        forecast: From test windows (W, T, F) to one-step forecasts of their last steps, (W, any number, F).
    """

    def __init__(self, plan: Plan, forecast: Callable[[Array], Array]) -> None:
        self.plan, self.forecast = plan, forecast
        self.values, self.targets = plan.windows("test", stride=plan.window)
        self.steps, self.trained_s = 0, 0.0
        self.rates: list[float] = []  # window-steps a second, per segment
        self.curve: list[tuple[int, float, float]] = []  # steps, seconds, test MSE
        self._mark = self._paused = self._pause = 0.0

    def begin(self) -> None:
        """Note that all is imported and read; called before the peer's own call that trains."""
        self._mark = time.perf_counter()

    def pause(self) -> None:
        """Note that what comes now counts for the time of training, not for the rate."""
        self._pause = time.perf_counter()

    def continue_rollout(self) -> None:
        """Note the end of that."""
        if self._pause:
            self._paused += time.perf_counter() - self._pause
            self._pause = 0.0

    def step(self) -> bool:
        """Count a step of training; return whether it is enough."""
        self.steps += 1
        if self.steps % self.plan.segment:
            return False
        took = time.perf_counter() - self._mark
        self.trained_s += took
        self.rates.append(self.plan.segment * self.plan.batch * self.plan.window / (took - self._paused))
        forecast = self.forecast(self.values)
        error = (forecast.astype(np.float64) - self.targets[:, -forecast.shape[1] :]) ** 2
        self.curve.append((self.steps, self.trained_s, float(error.mean())))
        enough = self.reached_s is not None or self.trained_s >= self.plan.limit_s
        self._mark, self._paused = time.perf_counter(), 0.0
        return enough and len(self.rates) >= WARM + self.plan.segments

    @property
    def reached_s(self) -> float | None:
        """Seconds of training until the test MSE was first seen at the target."""
        return next((s for _, s, mse in self.curve if mse <= self.plan.target), None)

    def report(self, *, parameters: int, packages: tuple[str, ...]) -> None:
        """Print the line of JSON that run.py reads."""
        found: dict[str, Any] = {
            "parameters": parameters,
            "versions": {name: metadata.version(name) for name in packages},
            "rates": self.rates[WARM:],
            "reached_s": self.reached_s,
            "trained_s": self.trained_s,
            "steps": self.steps,
            "best_mse": min(mse for *_, mse in self.curve),
            "curve": self.curve,
        }
        print(json.dumps(found), flush=True)
