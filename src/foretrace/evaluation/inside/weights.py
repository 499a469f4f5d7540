"""Whether each layer learns: how large its weights are, and how far they move."""

from typing import Any

import torch
from torch import Tensor, nn

from foretrace.model.next_step import NextStepModel


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
        """Return metrics of each layer: ‖W‖, and ‖ΔW‖ / ‖W‖ since the last call or since the watch began.

        The norms are Euclidean, over all parameters of a layer; where W is zero, the update is ‖ΔW‖ alone.
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
