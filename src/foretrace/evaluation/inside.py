"""The inside of a network: its gates over an episode, how far back the loss reaches, and how far its weights move.

Shapes: B windows, T steps, H hidden units of a layer, L layers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from foretrace.data.sequences import FloatArray, Sequences
from foretrace.data.windows import Batch, Windows
from foretrace.model.gates import Gates, unroll_stack
from foretrace.model.next_step import NextStepModel

DoubleArray = npt.NDArray[np.float64]

OPEN, SHUT = 0.9, 0.1
QUANTILES = (0.1, 0.5, 0.9)
MAX_STEPS = 2000  # of the episode
MAX_WINDOWS = 8
HUNDREDTH = 0.01  # less than this: what happened then has no part in what is learnt
STEADY = 2.0  # a gradient that changes by less than this factor over the whole window is called steady
FIT_DOWN_TO = 1e-6  # of the last step's gradient: below it, single precision is noise


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Norms of ∂L/∂h_t and ∂L/∂c_t per layer and step, L being the squared error of the last forecast alone.

    Both are total derivatives: through all later steps and through all layers above. Along the cell alone,
    ∂c_t/∂c_{t−1} = f_t, which is why the cell is where a gradient survives if it does.

    >>> halving = 0.5 ** np.arange(10.0)[None, ::-1]
    >>> flow = GradientFlow(("lstm.0",), h=halving, c=halving)
    >>> flow.diagnosis()
    ['lstm.0: gradient halves every 1 steps; a hundredth is left after 7 (vanishes)']
    >>> flow.metrics()
    {'gradient/lstm.0/last step': 1.0, 'gradient/lstm.0/first to last': 0.001953125}
    """

    layers: tuple[str, ...]  # names, from the input up
    h: DoubleArray  # (L, T), in the order of time: the loss is at the end of each row
    c: DoubleArray  # (L, T)

    def diagnosis(self) -> list[str]:
        """Return a line per layer about the gradient along its cells."""
        return [
            f"{name}: gradient {_describe(norms[::-1])}"
            for name, norms in zip(self.layers, self.c, strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Return the norm of ∂L/∂c at the last step, and the share of it that arrives at the first one."""
        named = {}
        for name, norms in zip(self.layers, self.c, strict=True):
            first, last = float(norms[0]), float(norms[-1])
            named[f"gradient/{name}/last step"] = last
            named[f"gradient/{name}/first to last"] = first / last if last else math.nan
        return named


def gradient_flow(model: NextStepModel, batch: Batch) -> GradientFlow:
    """Return how the gradient comes back from the last forecast of each window: means over windows of its norms.

    Each window's loss is the mean over features of its last squared error in scaled units. Dropout is left out,
    and neither the model's mode, nor its gradients, nor any random number generator is touched.

    Frozen layers are passed through like all others. The windows are on the model's device.
    """
    with torch.enable_grad():
        x, target = model.scaling(batch.values), model.scaling(batch.targets[:, -1])
        # Needed on the way, whatever is frozen; so the inputs ask for a gradient that nobody reads.
        inputs = model.inputs(x, batch.covariates).detach().requires_grad_()
        layers = unroll_stack(model.stack, inputs)
        forecast = model.forecast(x[:, -1], inputs[:, -1], model.stack.head(layers[-1][-1].h))
        loss = (forecast - target).square().mean(dim=-1).sum()
        states = [state for steps in layers for step in steps for state in (step.h, step.c)]
        found = torch.autograd.grad(loss, states)
    norms = torch.stack([gradient.norm(dim=-1).mean() for gradient in found])  # (L T 2,)
    h, c = norms.reshape(len(layers), -1, 2).double().cpu().numpy().transpose(2, 0, 1)
    return GradientFlow(tuple(f"lstm.{depth}" for depth in range(len(layers))), h=h, c=c)


def _describe(norms: DoubleArray) -> str:
    """Say what becomes of a gradient, step by step back from the loss. Shape (T,)."""
    if not np.isfinite(norms).all():
        return "is not finite"
    if not norms[0] > 0:
        return "is zero: nothing comes back from the loss"
    left, back = norms / norms[0], len(norms) - 1
    if back == 0:
        return "has one step only, so nothing to come back through"
    # The slope of the logarithm of what is left, per step back, by least squares.
    lost = np.flatnonzero(left < FIT_DOWN_TO)
    usable = np.maximum(left[: max(2, lost[0])] if len(lost) else left, np.finfo(np.float64).tiny)
    per_step = float(np.polyfit(np.arange(len(usable)), np.log(usable), 1)[0])
    half_life = f"{math.log(2) / -per_step:.2g}" if per_step < 0 else "∞"
    if left[-1] < HUNDREDTH:
        gone = np.flatnonzero(left < HUNDREDTH)[0]
        return f"halves every {half_life} steps; a hundredth is left after {gone} (vanishes)"
    if left[-1] < 1 / STEADY:
        return f"halves every {half_life} steps; {left[-1]:.0%} is left after {back} (fades)"
    if left[-1] <= STEADY:
        return f"is steady: {left[-1]:.2g} of it after {back} steps"
    how = "explodes" if left[-1] > 1 / HUNDREDTH else "grows"
    return f"grows {math.exp(per_step):.3g}-fold a step; {left[-1]:.3g}-fold after {back} ({how})"


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
    with torch.no_grad():
        layers = unroll_stack(model.stack, model.inputs(model.scaling(values), covariates))
    over_time = [Gates(*map(torch.cat, zip(*steps, strict=True))) for steps in layers]  # each (T, H)
    return {
        f"lstm.{depth}": {name: gate.cpu().numpy() for name, gate in found._asdict().items()}
        for depth, found in enumerate(over_time)
    }


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


def memory_steps(forget: DoubleArray) -> DoubleArray:
    """Return in how many steps each unit (H,) forgets its cell to a share 1/e, by its forget gate (T, H).

    That is −1/ln f, with f the geometric mean over time: ∂c_t/∂c_{t−1} = f_t along the cell, so logarithms are what
    adds up.

    >>> memory_steps(np.full((20, 2), 0.5)).round(3).tolist()
    [1.443, 1.443]
    """
    with np.errstate(divide="ignore"):  # a gate that rounds to 1 remembers for ever, one at 0 nothing
        return np.asarray(np.abs(1 / np.log(forget).mean(axis=0)))


class WeightWatch:
    """The weights of a model's layers, followed from one measurement to the next.

    A layer may be trainable by its looks and yet be left out of the optimizer, which raises no error anywhere:
    then its weights stay what they were, bit by bit, and `still` names it.

    Args:
        model: Its weights now are what the first change is measured from.

    >>> model = NextStepModel(hidden_sizes=[4, 4], num_features=2)
    >>> model.freeze(["lstm.0"])
    >>> watch = WeightWatch(model)
    >>> nn.init.ones_(model.stack.head.bias).tolist()  # stands for a training that reaches the head alone
    [1.0, 1.0]
    >>> watch.measure(model)["weights/lstm.1/update"]
    0.0
    >>> watch.still()
    ['lstm.0: frozen', 'lstm.1: trainable, but has never moved']
    """

    def __init__(self, model: NextStepModel) -> None:
        self._last = _flat_layers(model)
        self._frozen: dict[str, bool] = {}  # by layer, once measured
        self._moved: set[str] = set()

    def measure(self, model: NextStepModel) -> dict[str, float]:
        """Return Euclidean norms of each layer: ‖W‖, and ‖ΔW‖ / ‖W‖ since the last call or since the watch began.

        Where W is zero, the update is ‖ΔW‖ alone.
        """
        before, self._last = self._last, _flat_layers(model)
        pairs = [torch.stack([w.norm(), (w - before[name]).norm()]) for name, w in self._last.items()]
        metrics: dict[str, float] = {}
        # One transfer for all layers, so that a device is waited for once.
        for (name, layer), (norm, change) in zip(
            model.layers().items(), torch.stack(pairs).tolist(), strict=True
        ):
            self._frozen[name] = not any(parameter.requires_grad for parameter in layer.parameters())
            self._moved |= {name} if change != 0 else set()
            metrics |= {f"weights/{name}/norm": norm, f"weights/{name}/update": change / (norm or 1.0)}
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what the next change is measured from, and which layers have moved."""
        return {"last": self._last, "moved": sorted(self._moved)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._last = {name: w.to(self._last[name].device) for name, w in state["last"].items()}
        self._moved = set(state["moved"])

    def still(self) -> list[str]:
        """Return a line for each measured layer that has never moved: frozen, or trained in vain."""
        return [
            f"{name}: frozen" if frozen else f"{name}: trainable, but has never moved"
            for name, frozen in self._frozen.items()
            if name not in self._moved
        ]


def _flat_layers(model: NextStepModel) -> dict[str, Tensor]:
    """Return a copy of each layer's parameters in a row."""
    with torch.no_grad():
        return {
            name: nn.utils.parameters_to_vector(layer.parameters()).clone()
            for name, layer in model.layers().items()
        }
