"""Several models that forecast together.

Shapes: B batch, T time, F features, K covariates, M members.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foretrace.model.next_step import NextStepModel


class Ensemble(NextStepModel):
    """Gives the mean of its members' forecasts, each of which reads its own where forecasts feed on themselves.

    What looks at layers sees those of the first member.

    Args:
        members: Models of the same features, covariates and scaling, as the seeds of one setting are.

    >>> members = [NextStepModel(hidden_sizes=[4], num_features=2) for _ in range(3)]
    >>> forecast, state = Ensemble(members)(torch.zeros(1, 5, 2), torch.zeros(1, 5, 0))
    >>> forecast.shape, len(state)
    (torch.Size([1, 5, 2]), 3)
    """

    def __init__(self, members: Sequence[NextStepModel]) -> None:
        nn.Module.__init__(self)
        self.members, first = nn.ModuleList(members), members[0]
        self.output, self.input_clip, self.stack, self.skip = (
            first.output,
            first.input_clip,
            first.stack,
            first.skip,
        )
        self.scaling, self.covariate_scaling = first.scaling, first.covariate_scaling
        self.register_buffer("change", first.change)

    def start(self) -> Any:
        """Return the members' states before the first step."""
        return tuple((None, member.start()) for member in self.members)  # type: ignore[operator]

    def forward_scaled(self, x: Tensor, covariates: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Forecast from scaled values; the state is each member's last forecast (B, 1, F) with its state."""
        before = [None] * len(self.members) if state is None else [own for _, own in state]
        pairs = zip(self.members, before, strict=True)
        found = [member.forward_scaled(x, covariates, own) for member, own in pairs]  # type: ignore[operator]
        mean = torch.stack([forecast for forecast, _ in found]).mean(dim=0)
        return mean, tuple((forecast[:, -1:], after) for forecast, after in found)

    def continue_rollout(self, first: Tensor, covariates: Tensor, state: Any) -> Tensor:
        """Let each member's forecasts feed on themselves, and return their mean (B, H, F)."""
        pairs = zip(self.members, state, strict=True)
        each = [member.continue_rollout(own, covariates, after) for member, (own, after) in pairs]  # type: ignore[operator]
        return torch.stack(each).mean(dim=0)
