"""The inside of a trained network: its gates over an episode, and how far its gradients reach.

Shapes: T steps, H hidden units of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from foretrace.data.sequences import FloatArray, Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.inside.layers import GradientFlow, gradient_flow
from foretrace.model.gates import gates
from foretrace.model.next_step import NextStepModel

OPEN, SHUT = 0.9, 0.1
QUANTILES = (0.1, 0.5, 0.9)
MAX_STEPS = 2000  # of the episode
MAX_WINDOWS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Inside:
    """Gates and gradients of a trained network, with what they say.

    Args:
        flow: Gradients of the last forecast's error, step by step back.
        gates: By layer and by name, see `foretrace.model.gates`; each (T, H).
        lines: A line about each layer's gradient, then one about each layer's gates.
        metrics: Summaries of the gates, by the names under which they are tracked.
    """

    flow: GradientFlow
    gates: Mapping[str, Mapping[str, FloatArray]]
    lines: tuple[str, ...]
    metrics: Mapping[str, float]


def look_inside(model: NextStepModel, windows: Windows, sequences: Sequences) -> Inside:
    """Return gradients over a few windows, and gates over the first episode of some sequences."""
    chosen = torch.linspace(0, len(windows) - 1, min(MAX_WINDOWS, len(windows))).round().long()
    flow = gradient_flow(model, windows.gather(chosen))
    found = episode_gates(model, sequences, 0, max_steps=MAX_STEPS)
    summaries = {layer: summarize_gates(**named) for layer, named in found.items()}
    return Inside(
        flow=flow,
        gates=found,
        lines=(*flow.diagnosis(), *(summary.describe(layer) for layer, summary in summaries.items())),
        metrics={n: v for layer, summary in summaries.items() for n, v in summary.metrics(layer).items()},
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class GateSummary:
    """How a layer uses its gates over an episode.

    A gate that is open or shut all the time is one that the layer could do without; a candidate near ±1 has no
    slope to learn by. A unit forgets c to a share 1/e within its memory length, −1/ln f, with f the geometric
    mean of its forget gate over time: ∂c_t/∂c_{t−1} = f_t along the cell, so logarithms are what adds up.

    Args:
        opened: Share of all units and steps with a gate above 0.9; by gate i, f, o.
        shut: The same below 0.1.
        g_saturated: Share with |g| above 0.9.
        memory_steps: Memory length of each unit in steps. Shape (H,).

    >>> half = np.full((20, 3), 0.5)
    >>> summary = summarize_gates(i=half, f=half, g=half, o=np.ones((20, 3)))
    >>> summary.opened, round(summary.memory_quantiles[1], 3)
    ({'i': 0.0, 'f': 0.0, 'o': 1.0}, 1.443)
    """

    opened: dict[str, float]
    shut: dict[str, float]
    g_saturated: float
    memory_steps: npt.NDArray[np.float64]

    @property
    def memory_quantiles(self) -> tuple[float, float, float]:
        """Memory length in steps of which a tenth, a half and nine tenths of the units have at most that."""
        # Of the units' own values: between a finite and an infinite memory nothing can be interpolated.
        low, median, high = np.quantile(self.memory_steps, QUANTILES, method="inverted_cdf")
        return float(low), float(median), float(high)

    def metrics(self, layer: str) -> dict[str, float]:
        """Return the figures by their tracked names."""
        return {
            f"gates/{layer}/memory steps": self.memory_quantiles[1],
            f"gates/{layer}/forget open": self.opened["f"],
            f"gates/{layer}/forget shut": self.shut["f"],
            f"gates/{layer}/candidate saturated": self.g_saturated,
        }

    def describe(self, layer: str) -> str:
        """Return the figures as a line."""
        low, median, high = self.memory_quantiles
        shares = ", ".join(f"{gate} {self.opened[gate]:.0%} / {self.shut[gate]:.0%}" for gate in self.opened)
        return (
            f"{layer}: remembers {median:.3g} steps (a tenth of the units under {low:.3g}, a tenth over {high:.3g}); "
            f"open / shut {shares}; candidate saturated {self.g_saturated:.0%}"
        )


def episode_gates(
    model: NextStepModel, sequences: Sequences, index: int, *, max_steps: int | None = None
) -> dict[str, dict[str, FloatArray]]:
    """Run the written-out equations over the beginning of an episode, from a state of zero and without dropout.

    Returns:
        For each LSTM layer, by name from the input up, what `foretrace.model.gates.Gates` holds, by name; each (T, H).
    """
    first, end = sequences.bounds[index]
    rows = slice(first, end if max_steps is None else min(end, first + max_steps))
    device = model.change.device
    values = torch.from_numpy(sequences.values[None, rows]).to(device)
    covariates = torch.from_numpy(sequences.covariates[None, rows]).to(device)
    inside = {}
    with torch.no_grad():
        x = model.inputs(model.scaling(values), covariates)
        for depth, layer in enumerate(model.stack.lstm):
            assert isinstance(layer, torch.nn.LSTM)
            found = gates(layer, x)
            x = found.h
            inside[f"lstm.{depth}"] = {name: gate[0].cpu().numpy() for name, gate in found._asdict().items()}
    return inside


def summarize_gates(
    *, i: npt.ArrayLike, f: npt.ArrayLike, g: npt.ArrayLike, o: npt.ArrayLike, **_: npt.ArrayLike
) -> GateSummary:
    """Sum up one layer's gates, each (T, H), of what `episode_gates` returns."""
    named = {name: np.asarray(gate, dtype=np.float64) for name, gate in {"i": i, "f": f, "o": o}.items()}
    with np.errstate(divide="ignore"):  # a gate that rounds to 1 remembers for ever, one at 0 nothing
        memory_steps = np.abs(1 / np.log(named["f"]).mean(axis=0))
    return GateSummary(
        opened={name: float((gate > OPEN).mean()) for name, gate in named.items()},
        shut={name: float((gate < SHUT).mean()) for name, gate in named.items()},
        g_saturated=float((np.abs(np.asarray(g)) > OPEN).mean()),
        memory_steps=memory_steps,
    )
