"""How far a gradient comes back through a recurrent weight of 3, 4 and 5: docs/images/recurrent_gradient.png.

Where σ has its steepest slope, 1/4, a step back multiplies the gradient by weight / 4: below 4 it vanishes, above 4
it explodes. Autograd through the recurrence h ← σ(w (h − 1/2)), whose fixed point 1/2 keeps z at zero.
"""

from pathlib import Path

import torch

from foretrace.reports.figures.style import BLUE, INK, VERMILLION, house_style, new_panels

STEPS = 30
LOOKS = {3.0: (BLUE, "--"), 4.0: (INK, "-"), 5.0: (VERMILLION, "-.")}
TARGET = Path(__file__).parents[1] / "docs" / "images" / "recurrent_gradient.png"


def gradients(weight: float) -> list[float]:
    """Of the last state with respect to the state 0, 1, … steps before it."""
    states = [torch.tensor(0.5, dtype=torch.float64, requires_grad=True)]
    for _ in range(STEPS):
        states.append(torch.sigmoid(weight * (states[-1] - 0.5)))
    found = torch.autograd.grad(states[-1], states)
    return [float(gradient) for gradient in reversed(found)]


@house_style()
def main() -> None:
    """Draws the picture, and prints what is left after all steps."""
    figure, [[axes]] = new_panels(1, 1, height_in=3.2, grid=False)
    axes.set(xlabel="steps back", ylabel="|∂h_T / ∂h_(T−k)|", yscale="log")
    for weight, (color, line) in LOOKS.items():
        norms = gradients(weight)
        axes.plot(norms, line, color=color)
        axes.annotate(f" weight {weight:g}", (STEPS, norms[-1]), color=color, va="center")
        print(f"weight {weight:g}: {norms[-1]:.3g} is left after {STEPS} steps")
    axes.set_xlim(0, STEPS * 1.15)
    figure.savefig(TARGET)


if __name__ == "__main__":
    main()
