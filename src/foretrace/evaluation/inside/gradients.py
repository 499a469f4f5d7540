"""How far back the loss reaches: gradients of a forecast's error with respect to every earlier state.

Shapes: B windows, T steps, H hidden units of a layer, L layers.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from foretrace.data.windows import Batch
from foretrace.evaluation.forecast_errors import FloatArray
from foretrace.model.gates import unroll_stack
from foretrace.model.next_step import NextStepModel

HUNDREDTH = 0.01  # less than this: what happened then has no part in what is learnt
STEADY = 2.0  # a gradient that changes by less than this factor over the whole window is called steady
FIT_DOWN_TO = 1e-6  # of the last step's gradient: below it, single precision is noise


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Norms of ∂L/∂h_t and ∂L/∂c_t per layer and step, L being the squared error of the last forecast alone.

    Both are total derivatives: through all later steps and through all layers above. Along the cell alone,
    ∂c_t/∂c_{t−1} = f_t, which is why the cell is where a gradient survives if it does.

    Args:
        layers: Names, from the input up.
        h: Shape (L, T), in the order of time: the loss is at the end of each row.
        c: Shape (L, T).

    >>> halving = 0.5 ** np.arange(10.0)[None, ::-1]
    >>> flow = GradientFlow(("lstm.0",), h=halving, c=halving)
    >>> flow.diagnosis()
    ['lstm.0: gradient halves every 1 steps; a hundredth is left after 7 (vanishes)']
    >>> flow.metrics()
    {'gradient/lstm.0/last step': 1.0, 'gradient/lstm.0/first to last': 0.001953125}
    """

    layers: tuple[str, ...]
    h: FloatArray
    c: FloatArray

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


def _describe(norms: FloatArray) -> str:
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
