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
from foretrace.model import gates as equations
from foretrace.model.next_step import NextStepModel

OPEN, SHUT = 0.9, 0.1
QUANTILES = (0.1, 0.5, 0.9)
MAX_STEPS = 2000  # of the episode
MAX_WINDOWS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Inside:
    """Gates and gradients of a trained network, with what they say."""

    flow: GradientFlow  # of the last forecast's error, step by step back
    # (T, H) each, by layer and by name, see `foretrace.model.gates`.
    gates: Mapping[str, Mapping[str, FloatArray]]
    lines: tuple[str, ...]  # about each layer's gradient, then about each layer's gates
    metrics: Mapping[str, float]  # summaries of the gates, by the names under which they are tracked


def look_inside(model: NextStepModel, windows: Windows, sequences: Sequences) -> Inside:
    """Return gradients over a few windows, and gates over the first episode of some sequences."""
    chosen = torch.linspace(0, len(windows) - 1, min(MAX_WINDOWS, len(windows))).round().long()
    flow = gradient_flow(model, windows.gather(chosen))
    found = episode_gates(model, sequences, 0, max_steps=MAX_STEPS)
    lines, metrics = flow.diagnosis(), dict[str, float]()
    for layer, named in found.items():
        line, figures = describe_gates(layer, named)
        lines.append(line)
        metrics |= figures
    return Inside(flow=flow, gates=found, lines=tuple(lines), metrics=metrics)


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
            found = equations.gates(layer, x)
            x = found.h
            inside[f"lstm.{depth}"] = {name: gate[0].cpu().numpy() for name, gate in found._asdict().items()}
    return inside


def describe_gates(layer: str, named: Mapping[str, FloatArray]) -> tuple[str, dict[str, float]]:
    """Return a line about how a layer uses its gates over an episode, each (T, H), and figures by their tracked names.

    A gate that is open (> 0.9) or shut (< 0.1) all the time is one that the layer could do without; a candidate
    near ±1 has no slope to learn by.

    >>> half = np.full((20, 3), 0.5, np.float32)
    >>> describe_gates("lstm.0", {"i": half, "f": half, "g": half, "o": 2 * half})[1]["gates/lstm.0/forget open"]
    0.0
    """
    gates = {name: named[name].astype(np.float64) for name in "ifo"}
    opened = {name: float((gate > OPEN).mean()) for name, gate in gates.items()}
    shut = {name: float((gate < SHUT).mean()) for name, gate in gates.items()}
    saturated = float((np.abs(named["g"]) > OPEN).mean())
    # Of the units' own values: between a finite and an infinite memory nothing can be interpolated.
    low, median, high = np.quantile(memory_steps(gates["f"]), QUANTILES, method="inverted_cdf")
    shares = ", ".join(f"{name} {opened[name]:.0%} / {shut[name]:.0%}" for name in gates)
    line = (
        f"{layer}: remembers {median:.3g} steps (a tenth of the units under {low:.3g}, a tenth over {high:.3g}); "
        f"open / shut {shares}; candidate saturated {saturated:.0%}"
    )
    figures = {
        "memory steps": float(median),
        "forget open": opened["f"],
        "forget shut": shut["f"],
        "candidate saturated": saturated,
    }
    return line, {f"gates/{layer}/{name}": value for name, value in figures.items()}


def memory_steps(forget: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return in how many steps each unit (H,) forgets its cell to a share 1/e, by its forget gate (T, H).

    That is −1/ln f, with f the geometric mean over time: ∂c_t/∂c_{t−1} = f_t along the cell, so logarithms are what
    adds up.

    >>> memory_steps(np.full((20, 2), 0.5)).round(3).tolist()
    [1.443, 1.443]
    """
    with np.errstate(divide="ignore"):  # a gate that rounds to 1 remembers for ever, one at 0 nothing
        return np.asarray(np.abs(1 / np.log(forget).mean(axis=0)))
