"""The inside of a trained network at a glance: its gates over an episode, and its gradients."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.inside.gates import episode_gates, summarize_gates
from foretrace.evaluation.inside.gradients import GradientFlow, gradient_flow
from foretrace.model.next_step import NextStepModel

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
    gates: Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
    lines: tuple[str, ...]
    metrics: Mapping[str, float]


def look_inside(model: NextStepModel, windows: Windows, sequences: Sequences) -> Inside:
    """Return gradients over a few windows, and gates over the first episode of some sequences."""
    chosen = torch.linspace(0, len(windows) - 1, min(MAX_WINDOWS, len(windows))).round().long()
    flow = gradient_flow(model, windows.gather(chosen))
    found = episode_gates(model, sequences, 0, max_steps=MAX_STEPS)
    gates = {
        layer: {name: gate.numpy() for name, gate in one._asdict().items()} for layer, one in found.items()
    }
    summaries = {layer: summarize_gates(**named) for layer, named in gates.items()}
    return Inside(
        flow=flow,
        gates=gates,
        lines=(*flow.diagnosis(), *(summary.describe(layer) for layer, summary in summaries.items())),
        metrics={n: v for layer, summary in summaries.items() for n, v in summary.metrics(layer).items()},
    )
