"""LSTM layers of different widths, one above the other.

Shapes: B batch, T time, F features in, H hidden units of a layer, O features out.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

State = tuple[tuple[Tensor, Tensor], ...]  # (h, c) per layer, each (1, B, H)


class StackedLSTM(nn.Module):
    """Reads a sequence and gives one output per step; the state is carried by whoever wants it.

    `torch.nn.LSTM` stacks layers of one width only, so each layer here is one of its own, in a `ModuleList`:
    a plain list would leave them out of the optimizer and of every checkpoint, without a word.

    Args:
        input_size: Features per step, F.
        hidden_sizes: Hidden units of each layer, from the input up.
        output_size: Outputs per step, O.
        dropout: Probability to drop a unit of each layer's output but the last one's, in training.
        spread: Whether O outputs more follow, zero at first, from which only the head learns, no layer below it.

    >>> network = StackedLSTM(17, [128, 256, 512], 17)
    >>> sum(parameter.numel() for parameter in network.parameters())
    2056209
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        output_size: int,
        *,
        dropout: float = 0.0,
        spread: bool = False,
    ) -> None:
        super().__init__()
        widths = [input_size, *hidden_sizes]
        self.lstm = nn.ModuleList(
            nn.LSTM(below, width, batch_first=True) for below, width in pairwise(widths)
        )
        self.dropout = nn.Dropout(dropout)
        self.head, self.spread = nn.Linear(widths[-1], output_size), output_size if spread else 0
        if spread:  # no random number is drawn for these outputs
            for name, drawn in list(self.head.named_parameters()):
                setattr(self.head, name, nn.Parameter(torch.cat([drawn.detach(), torch.zeros_like(drawn)])))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map x (B, T, F) to outputs (B, T, O) and the state after the last step; None starts from zero."""
        after: list[tuple[Tensor, Tensor]] = []
        for depth, layer in enumerate(self.lstm):
            x = self.dropout(x) if depth else x
            if state is not None and x.shape[1] == 1:
                # nn.LSTM arranges its weights for long sequences anew at each call: 20 times the cost of one step.
                h, c = state[depth]
                weights = cast(list[list[Tensor]], layer.all_weights)
                h, c = torch.lstm_cell(x[:, 0], (h[0], c[0]), *weights[0])
                x, layer_state = h[:, None], (h[None], c[None])
            else:
                x, layer_state = layer(x, None if state is None else state[depth])  # (B, T, H)
            after.append(layer_state)
        # The head is a thousandth of the arithmetic; in bf16 it would round the forecast to three digits.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.head.weight.dtype)
            outputs = self.head(x)
            if self.spread and x.requires_grad:
                own = self.head(x.detach())[..., self.spread :]
                outputs = torch.cat([outputs[..., : self.spread], own], dim=-1)
            return outputs, tuple(after)
