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
        self.output, self.input_clip = first.output, first.input_clip
        self.stack, self.skip = first.stack, first.skip
        self.scaling, self.covariate_scaling = first.scaling, first.covariate_scaling
        self.register_buffer("change", first.change)

    def start(self) -> Any:
        """Return the members' states before the first step."""
        return tuple((None, member.start()) for member in self.members)  # type: ignore[operator]

    def forward_spread(
        self, x: Tensor, covariates: Tensor, state: Any = None
    ) -> tuple[Tensor, Tensor | None, Any]:
        """Forecast from scaled values; the state is each member's last forecast (B, 1, F) with its state."""
        before = [None] * len(self.members) if state is None else [own for _, own in state]
        pairs = zip(self.members, before, strict=True)
        found = [member.forward_spread(x, covariates, own) for member, own in pairs]  # type: ignore[operator]
        after = tuple((forecast[:, -1:], own) for forecast, _, own in found)
        return *_mixture([(forecast, spread) for forecast, spread, _ in found]), after

    def continue_rollout(self, first: Tensor, covariates: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """Let each member's forecasts feed on themselves; see `NextStepModel.continue_rollout`."""
        pairs = zip(self.members, state, strict=True)
        return _mixture([member.continue_rollout(own, covariates, after) for member, (own, after) in pairs])  # type: ignore[operator]


def _mixture(members: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Return mean and spread of the members' normal distributions mixed: their disagreement counts as spread.

    Lakshminarayanan, Pritzel & Blundell, Simple and Scalable Predictive Uncertainty Estimation, 2017.
    """
    means = torch.stack([mean for mean, _ in members])
    variances = [spread.square() for _, spread in members if spread is not None]
    if len(variances) < len(members):
        return means.mean(dim=0), None
    return means.mean(dim=0), (torch.stack(variances).mean(dim=0) + means.var(dim=0, correction=0)).sqrt()
