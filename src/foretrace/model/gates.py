"""The LSTM's equations written out, step by step, for whoever wants to look inside a layer.

Shapes: B batch, T time, F features in, H hidden units of a layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from foretrace.model.lstm import StackedLSTM


class Gates(NamedTuple):
    """What a layer holds at one step, each (B, H).

    With z_t = W_ih x_t + b_ih + W_hh h_{t−1} + b_hh, cut into four in PyTorch's order i, f, g, o:

    - i, f, o: input, forget and output gate, the logistic function of their parts, within [0, 1];
    - g: the candidate, the hyperbolic tangent of its part, within [−1, 1];
    - c: the cell state, c_t = f_t c_{t−1} + i_t g_t;
    - h: the output, h_t = o_t tanh(c_t).

    Hochreiter and Schmidhuber, Long Short-Term Memory (1997), with the forget gate of Gers et al. (2000), as
    `torch.nn.LSTM` computes them.

    >>> layer = nn.LSTM(3, 5, batch_first=True)
    >>> steps, (h, _) = unroll(layer, torch.ones(2, 7, 3)), layer(torch.ones(2, 7, 3))
    >>> steps[6].f.shape, torch.allclose(steps[6].h, h[:, 6], atol=1e-6)
    (torch.Size([2, 5]), True)
    """

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


def unroll(layer: nn.LSTM, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> list[Gates]:
    """Compute all gates of a layer at each of T steps; gradients pass to x, to the weights and to the state.

    These tensors are the very nodes that the next step is computed from, so the gradient with respect to one of
    them holds all paths to the loss, through later steps too. That of `torch.nn.LSTM`'s output does not.

    Args:
        layer: One layer, in one direction.
        x: What the layer reads. Shape (B, T, F).
        state: h and c before the first step, each (1, B, H) as `torch.nn.LSTM` has them; None is zero.

    Raises:
        ValueError: If the layer is another kind of LSTM.
    """
    if layer.num_layers > 1 or layer.bidirectional or layer.proj_size or not layer.bias:
        raise ValueError(f"expected one layer in one direction, with biases, received {layer}")
    weight_ih, weight_hh, bias_ih, bias_hh = layer.all_weights[0]
    below = x @ weight_ih.T + bias_ih + bias_hh  # (B, T, 4 H)
    zero = x.new_zeros(len(x), layer.hidden_size)
    h, c = (zero, zero) if state is None else (state[0][0], state[1][0])  # (B, H)
    steps = []
    for z in below.unbind(dim=1):
        i, f, g, o = (z + h @ weight_hh.T).chunk(4, dim=-1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        steps.append(Gates(i, f, g, o, c, h))
    return steps


def unroll_stack(stack: StackedLSTM, inputs: Tensor) -> list[list[Gates]]:
    """All layers from a state of zero, without dropout: for each layer its T steps.

    Args:
        stack: The network.
        inputs: What its first layer reads. Shape (B, T, F).
    """
    layers = []
    for layer in stack.lstm:
        assert isinstance(layer, nn.LSTM)
        layers.append(unroll(layer, inputs))
        inputs = torch.stack([step.h for step in layers[-1]], dim=1)  # (B, T, H)
    return layers
