"""Whether each layer learns: how large its weights are, and how far they move."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foretrace.model.next_step import NextStepModel


@dataclass(frozen=True, kw_only=True)
class LayerNorm:
    """Euclidean norms over all parameters of a layer at one moment.

    Args:
        norm: ‖W‖.
        update: ‖ΔW‖ / ‖W‖, with ΔW the change since the moment before; ΔW alone if W is zero.
        frozen: Whether nothing in the layer is to be trained.
    """

    norm: float
    update: float
    frozen: bool


class WeightWatch:
    """Follows the weights of a model's layers from one measurement to the next.

    A layer may be trainable by its looks and yet be left out of the optimizer, which raises no error anywhere:
    then its weights stay what they were, bit by bit, and `still` names it.

    Args:
        model: Its weights now are what the first change is measured from.

    >>> model = NextStepModel(hidden_sizes=[4, 4], num_features=2)
    >>> model.freeze(["lstm.0"])
    >>> watch = WeightWatch(model)
    >>> nn.init.ones_(model.stack.head.bias).tolist()  # stands for a training that reaches the head alone
    [1.0, 1.0]
    >>> watch.measure(model)["lstm.1"].update
    0.0
    >>> watch.still()
    ['lstm.0: frozen', 'lstm.1: trainable, but has never moved']
    """

    def __init__(self, model: NextStepModel) -> None:
        self._last = _flat_layers(model)
        self._frozen: dict[str, bool] = {}  # by layer, once measured
        self._moved: set[str] = set()

    def measure(self, model: NextStepModel) -> dict[str, LayerNorm]:
        """Norms per layer, by its name, and the change since the last call or since the watch began."""
        before, self._last = self._last, _flat_layers(model)
        self._frozen = {name: _is_frozen(layer) for name, layer in model.layers().items()}
        pairs = torch.stack(
            [torch.stack([w.norm(), (w - before[name]).norm()]) for name, w in self._last.items()]
        )
        measured = {}
        # One transfer for all layers, so that a device is waited for once.
        for name, (norm, change) in zip(self._last, pairs.tolist(), strict=True):
            measured[name] = LayerNorm(norm=norm, update=change / (norm or 1.0), frozen=self._frozen[name])
            self._moved |= {name} if change != 0 else set()
        return measured

    def state_dict(self) -> dict[str, Any]:
        """What the next change is measured from, and which layers have moved."""
        return {"last": self._last, "moved": sorted(self._moved)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._last = {name: w.to(self._last[name].device) for name, w in state["last"].items()}
        self._moved = set(state["moved"])

    def still(self) -> list[str]:
        """A line for each layer measured that has not moved since the watch began: frozen, or trained in vain."""
        return [
            f"{name}: frozen" if frozen else f"{name}: trainable, but has never moved"
            for name, frozen in self._frozen.items()
            if name not in self._moved
        ]


def weight_metrics(measured: dict[str, LayerNorm]) -> dict[str, float]:
    """The figures by the names under which they are tracked.

    >>> weight_metrics({"head": LayerNorm(norm=2.0, update=0.1, frozen=False)})
    {'weights/head/norm': 2.0, 'weights/head/update': 0.1}
    """
    named: dict[str, float] = {}
    for name, layer in measured.items():
        named |= {f"weights/{name}/norm": layer.norm, f"weights/{name}/update": layer.update}
    return named


def _flat_layers(model: NextStepModel) -> dict[str, Tensor]:
    """A copy of each layer's parameters in a row."""
    with torch.no_grad():
        return {
            name: nn.utils.parameters_to_vector(layer.parameters()).clone()
            for name, layer in model.layers().items()
        }


def _is_frozen(layer: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in layer.parameters())
