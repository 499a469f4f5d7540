"""Forecasts that cost nothing: what a model has to be better than.

Shapes: B forecasts, T steps, C steps of context, F features, K covariates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from foretrace.data.sequences import Sequences
from foretrace.data.statistics import Statistics
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.ridge import fit_ridge


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearForecast:
    """The next step as a linear function of the last few: all baselines are of this one form.

    All is in the model's scaled units and in double precision on the CPU, so that nothing but the forecast
    itself differs between two baselines.

    Args:
        name: By which it is tracked.
        weights: The last of them belong to the present step. Shape (C, F + K, F).
        bias: Shape (F,).
        chosen: What was chosen on validation data, for people.

    >>> eye = torch.eye(1, dtype=torch.float64)
    >>> velocity = LinearForecast(name="velocity", weights=torch.stack([-eye, 2 * eye]), bias=torch.zeros(1))
    >>> past, none = torch.tensor([[[1.0], [4.0]]]), torch.zeros(1, 2, 0)
    >>> velocity.context, velocity.step(past, none).tolist()
    (2, [[7.0]])
    """

    name: str
    weights: Tensor
    bias: Tensor
    chosen: str = ""

    @property
    def context(self) -> int:
        """Steps that it reads, the present one included, C."""
        return len(self.weights)

    def step(self, history: Tensor, covariates: Tensor) -> Tensor:
        """Forecasts the step after the last C ones.

        Args:
            history: Scaled values. Shape (B, C, F).
            covariates: Scaled covariates of the same steps. Shape (B, C, K).

        Returns:
            Shape (B, F).
        """
        return self.steps(torch.cat([history, covariates], dim=-1))[:, 0]

    def steps(self, inputs: Tensor) -> Tensor:
        """Forecasts one step ahead from each step (B, T, F + K) that has enough before it: (B, T - C + 1, F)."""
        after = inputs.double()
        many = inputs.shape[1] - self.context + 1
        forecast = self.bias.expand(len(after), many, -1)
        for lag, weight in enumerate(self.weights):
            forecast = forecast + after[:, lag : lag + many] @ weight
        return forecast


def fit_baselines(
    train: Sequences, valid: Sequences, *, scalings: Scalings, longest: int
) -> tuple[LinearForecast, ...]:
    """Fits all baselines to the training part, and chooses among ridge regressions on the validation part.

    - ``persistence`` repeats the last value;
    - ``velocity`` repeats the last change: x_t + (x_t − x_{t−1}), over the last two rows that were kept;
    - ``mean`` is the training mean, whatever came before;
    - ``ridge`` regresses on the last p steps, see `foretrace.evaluation.ridge`.

    Args:
        train: What they are fitted to.
        valid: What p and the strength of the ridge are chosen on.
        scalings: Units of all forecasts.
        longest: Steps of history that all of them may need at most, >= 2.

    Raises:
        ValueError: If ``longest`` is too small, or a part has too few rows for any regression.
    """
    if longest < 2:
        raise ValueError(f"the baselines need 2 steps of history at least, got {longest}")
    num_features, num_covariates = train.values.shape[1], train.covariates.shape[1]
    present = torch.eye(num_features + num_covariates, num_features, dtype=torch.float64)  # (F + K, F)
    at_rest = torch.zeros(num_features, dtype=torch.float64)
    mean = scalings.values(torch.from_numpy(Statistics.of(train).mean)).double()
    p, strength, weights, bias = fit_ridge(train, valid, scalings=scalings, longest=longest)
    return (
        LinearForecast(name="persistence", weights=present[None], bias=at_rest),
        LinearForecast(name="velocity", weights=torch.stack([-present, 2 * present]), bias=at_rest),
        LinearForecast(name="mean", weights=0 * present[None], bias=mean),
        LinearForecast(
            name="ridge", weights=weights, bias=bias, chosen=f"last {p} steps, strength {strength:g}"
        ),
    )
