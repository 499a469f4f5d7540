"""A look inside while a model trains: how far gradients reach, and whether each layer moves."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from foretrace.data.windows import Windows
from foretrace.evaluation.inside.layers import GradientFlow, WeightWatch, gradient_flow

NUM_WINDOWS = 8  # that gradients are taken over, spread evenly


class Diagnostics(Callback):
    """Reports gradients and weights per layer after an epoch, and leaves the training as it is, bit by bit.

    It reads the weights after the validation of an epoch, on windows of its own, by equations of its own: no
    random number is drawn, no module changes its mode, no parameter gets a gradient. Norms of weights and of
    their updates are taken after every epoch, as an update is since the last one; gradients, which take a tenth of
    a batch's time on two idle cores, every ``every_n_epochs``.

    Args:
        windows: Where a few windows for the gradients come from; those of validation, so that training's own
            shuffling has no part in it.
        every_n_epochs: Take gradients after epochs 0, n, 2 n, ….

    Attributes:
        flow: The latest gradients; None before the first.
    """

    def __init__(self, windows: Windows, *, every_n_epochs: int = 5) -> None:
        self._windows, self._every_n_epochs = windows, every_n_epochs
        self._chosen = torch.linspace(0, len(windows) - 1, min(NUM_WINDOWS, len(windows))).round().long()
        self._watch: WeightWatch | None = None
        self._restored: dict[str, Any] | None = None
        self.flow: GradientFlow | None = None

    def lines(self) -> list[str]:
        """Return a line per layer about its gradient, and one for each layer that never moved."""
        flow = self.flow.diagnosis() if self.flow else []
        return flow + (self._watch.still() if self._watch else [])

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Note the weights that training begins with, which may come from a checkpoint."""
        self._watch = WeightWatch(module.model)
        if self._restored is not None:
            self._watch.load_state_dict(self._restored)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights at the end of the last epoch, from which the next change is measured."""
        return {"watch": self._watch.state_dict()} if self._watch else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self._restored = state.get("watch")

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Measure and report; Lightning gives the metrics to the tracker with the epoch as their step."""
        assert self._watch is not None
        metrics = self._watch.measure(module.model)
        if trainer.current_epoch % self._every_n_epochs == 0:
            self.flow = gradient_flow(module.model, self._windows.gather(self._chosen))
            metrics |= self.flow.metrics()
        module.log_dict(metrics, rank_zero_only=True)  # the others neither measure nor wait
