"""The network with its scaling and its form of output: raw units in, raw units out.

Shapes: B batch, T time, F features, K covariates.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from foretrace.model.lstm import StackedLSTM, State
from foretrace.model.scaling import Standardizer

FLOOR = 1e-4  # smallest spread, in scaled units: of a feature that never varies no error is left to divide by


class NextStepModel(nn.Module):
    """Forecasts the next step of every feature from all steps so far.

    With x the present values in scaled units, u the stack's output and c the typical (root mean square)
    change of each feature from one step to the next, in scaled units too, the forecast is

    - ``value``: u. The network has to learn to repeat its input before it can improve on it.
    - ``change``: x + c u. An output of zero is the persistence forecast.
    - ``linear``: x + c (W [x, covariates] + u). The linear part of the dynamics needs no LSTM; W starts at zero.

    Args:
        hidden_sizes: Hidden units of each LSTM layer.
        num_features: F.
        num_covariates: K.
        dropout: Between layers, in training.
        output: The form above.
        input_clip: Largest absolute scaled value that the network reads; x in the sum stays as it is. None: any.
        spread: Whether the head also gives the standard deviation of each forecast's error: its logarithm, in the
            unit that u is in, so that zero is the error of persistence, or for ``value`` of the mean.
    """

    change: Tensor

    def __init__(
        self,
        *,
        hidden_sizes: Sequence[int],
        num_features: int,
        num_covariates: int = 0,
        dropout: float = 0.0,
        output: Literal["value", "change", "linear"] = "value",
        input_clip: float | None = None,
        spread: bool = False,
    ) -> None:
        super().__init__()
        self.output, self.input_clip = output, input_clip
        self.stack = StackedLSTM(
            num_features + num_covariates, hidden_sizes, num_features, dropout=dropout, spread=spread
        )
        self.skip = (
            nn.Linear(num_features + num_covariates, num_features, bias=False) if output == "linear" else None
        )
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)
        self.scaling = Standardizer(torch.zeros(num_features), torch.ones(num_features))
        self.covariate_scaling = Standardizer(torch.zeros(num_covariates), torch.ones(num_covariates))
        self.register_buffer("change", torch.ones(num_features))

    def set_statistics(
        self, *, mean: Tensor, std: Tensor, change: Tensor, covariate_mean: Tensor, covariate_std: Tensor
    ) -> None:
        """Take over the training part's statistics, in raw units: each (F,), the covariates' (K,)."""
        self.scaling = Standardizer(mean, std)
        self.covariate_scaling = Standardizer(covariate_mean, covariate_std)
        self.change = change.float() / self.scaling.scale

    def forward(self, values: Tensor, covariates: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Forecasts one step ahead at each step, in raw units.

        Args:
            values: What was measured. Shape (B, T, F).
            covariates: Known inputs of the same steps. Shape (B, T, K).
            state: From an earlier call; None starts from zero.

        Returns:
            The forecast of the step after each one, (B, T, F), and the state after the last.
        """
        scaled, state = self.forward_scaled(self.scaling(values), covariates, state)
        return self.scaling.inverse(scaled), state

    def forward_scaled(
        self, x: Tensor, covariates: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Do the same from scaled values to scaled forecasts; covariates stay raw."""
        forecast, _, state = self.forward_spread(x, covariates, state)
        return forecast, state

    def forward_spread(
        self, x: Tensor, covariates: Tensor, state: State | None = None
    ) -> tuple[Tensor, Tensor | None, State]:
        """Do the same with the forecasts' spread (B, T, F) between forecast and state; None if it is not learned."""
        inputs = self.inputs(x, covariates)
        update, state = self.stack(inputs, state)
        return self.forecast(x, inputs, update), self.spread(update), state

    def start(self) -> State:
        """Return the state before the first step of a single sequence, which is zero."""
        zeros = [self.change.new_zeros(1, 1, int(layer.hidden_size)) for layer in self.stack.lstm]  # type: ignore[arg-type]
        return tuple((zero, zero) for zero in zeros)

    def rollout(self, x: Tensor, covariates: Tensor, *, horizon: int) -> tuple[Tensor, Tensor | None]:
        """Read a warm-up and continue from the model's own forecasts, the state carried: any step costs the same.

        Args:
            x: Scaled values of the warm-up. Shape (B, W, F).
            covariates: Raw covariates of the warm-up and of the steps after it. Shape (B, W + H - 1, K).
            horizon: H.

        Returns:
            Scaled forecasts of the H steps after the warm-up, and their spread; see `continue_rollout`.
        """
        warmup = x.shape[1]
        forecast, state = self.forward_scaled(x, covariates[:, :warmup])
        return self.continue_rollout(forecast[:, -1:], covariates[:, warmup : warmup + horizon - 1], state)

    def continue_rollout(
        self, first: Tensor, covariates: Tensor, state: State
    ) -> tuple[Tensor, Tensor | None]:
        """Let forecasts feed on themselves.

        The spread is that of the sum of all steps' errors so far, as if they were independent.

        Args:
            first: The scaled forecast of the next step. Shape (B, 1, F).
            covariates: Raw covariates of the H - 1 steps from that one on. Shape (B, H - 1, K).
            state: That the first one was made with.

        Returns:
            Scaled forecasts (B, H, F), the first one included, and their spread, (B, H, F) or None.
        """
        forecasts, spreads = [first], [self.spread(self.stack.head(state[-1][0][0, :, None]))]
        for known in covariates.unbind(dim=1):
            forecast, spread, state = self.forward_spread(forecasts[-1], known[:, None], state)
            forecasts.append(forecast)
            spreads.append(spread)
        variances = [spread.square() for spread in spreads if spread is not None]
        spread = torch.cat(variances, dim=1).cumsum(dim=1).sqrt() if variances else None
        return torch.cat(forecasts, dim=1), spread

    def inputs(self, x: Tensor, covariates: Tensor) -> Tensor:
        """Return what the stack reads: scaled values, then scaled covariates. Shape (B, T, F + K)."""
        if self.input_clip is not None:
            x = x.clamp(-self.input_clip, self.input_clip)
        return torch.cat([x, self.covariate_scaling(covariates)], dim=-1) if covariates.shape[-1] else x

    def forecast(self, x: Tensor, inputs: Tensor, update: Tensor) -> Tensor:
        """Scaled forecasts (..., F) from what the stack read and gave; any shape."""
        update = update[..., : x.shape[-1]]
        if self.output == "value":
            return update
        if self.skip is not None:
            with torch.autocast(x.device.type, enabled=False):
                update = update + self.skip(inputs)
        return x + self.change * update

    def spread(self, update: Tensor) -> Tensor | None:
        """Return standard deviations of the forecasts' errors (..., F) in scaled units, from what the stack gave."""
        if not self.stack.spread:
            return None
        log_spread = update[..., len(self.change) :]  # bounded, as the LSTM's outputs are
        return (log_spread.exp() if self.output == "value" else self.change * log_spread.exp()) + FLOOR

    def layers(self) -> dict[str, nn.Module]:
        """Return the layers by the names that people use for them: lstm.0, lstm.1, …, head, skip."""
        named: dict[str, nn.Module] = {f"lstm.{depth}": layer for depth, layer in enumerate(self.stack.lstm)}
        named["head"] = self.stack.head
        return named | ({"skip": self.skip} if self.skip is not None else {})

    def freeze(self, names: Sequence[str]) -> None:
        """Leaves the named layers at their present values for good.

        Raises:
            KeyError: If there is no such layer.
        """
        for name in names:
            self.layers()[name].requires_grad_(False)


def count_parameters(model: NextStepModel) -> dict[str, tuple[int, int]]:
    """Trainable and frozen parameters of each layer.

    >>> report = NextStepModel(hidden_sizes=[128, 256, 512], num_features=17)
    >>> report.freeze(["lstm.1", "lstm.2"])
    >>> count_parameters(report)
    {'lstm.0': (75264, 0), 'lstm.1': (0, 395264), 'lstm.2': (0, 1576960), 'head': (8721, 0)}
    """

    def count(layer: nn.Module, trainable: bool) -> int:
        return sum(p.numel() for p in layer.parameters() if p.requires_grad == trainable)

    return {name: (count(layer, True), count(layer, False)) for name, layer in model.layers().items()}
