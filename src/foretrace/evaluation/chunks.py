"""Whole episodes read side by side, in chunks that fit into memory however long the episodes are.

Shapes: B episodes in a chunk, S steps in it, F features, K covariates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretrace.data.progress import track
from foretrace.data.sequences import Sequences
from foretrace.model.next_step import NextStepModel
from foretrace.model.scaling import Standardizer

EPISODES = 64  # at once, and
STEPS = 256  # of each: with them a layer of 512 needs 34 MB


@dataclass(frozen=True, eq=False)
class Scalings:
    """A model's scaling, on the CPU: what is compared with the model is so in its very units.

    >>> scalings = Scalings.of(NextStepModel(hidden_sizes=[4], num_features=2, num_covariates=1))
    >>> scalings.inputs(torch.ones(1, 5, 2), torch.zeros(1, 5, 1))[0, 0].tolist()
    [1.0, 1.0, 0.0]
    """

    values: Standardizer
    covariates: Standardizer

    @classmethod
    def of(cls, model: NextStepModel) -> "Scalings":
        """Copy the model's scaling."""
        parts = (model.scaling, model.covariate_scaling)
        return cls(*(Standardizer(part.mean.cpu(), part.scale.cpu()) for part in parts))

    def inputs(self, x: Tensor, covariates: Tensor) -> Tensor:
        """Return what a linear forecast reads of scaled values and raw covariates: (..., F + K), in double."""
        return torch.cat([x, self.covariates(covariates)], dim=-1).double()


@dataclass(frozen=True, eq=False, kw_only=True)
class Chunk:
    """Some steps of some episodes, with what came one step after each."""

    episodes: Tensor  # (B,), which
    steps: Tensor  # (S,), numbers in the episodes; unless from 0 on, they follow those of the chunk before
    x: Tensor  # (B, lookback + S, F), scaled: what came before is at the front
    covariates: Tensor  # (B, lookback + S, K), raw
    targets: Tensor  # (B, S, F), scaled values one step later
    mask: Tensor  # (B, S), which steps exist and are to count; the others hold something finite


def read_chunks(
    sequences: Sequences, *, scalings: Scalings, history: int, lookback: int = 0, what: str
) -> Iterator[Chunk]:
    """Read every episode from its first step to its last.

    A forecast counts after so many steps of history, the present one included; ``lookback`` < ``history`` steps before
    a chunk come with it. ``what`` tells whoever waits what is done with them.
    """
    steps = sequences.num_targets  # (E,)
    # Episodes of about one length together, and none that has nothing to count.
    order = np.argsort(-steps, kind="stable")
    order = order[steps[order] >= history]
    groups = np.split(order, range(EPISODES, len(order), EPISODES)) if len(order) else []
    places = [(chosen, first) for chosen in groups for first in range(0, int(steps[chosen].max()), STEPS)]
    for chosen, first in track(places, what):
        first_row, last = sequences.bounds[chosen, :1], steps[chosen, None] - 1
        number = np.arange(first - lookback, min(first + STEPS, int(last.max()) + 1))
        rows, number = first_row + np.clip(number, 0, last), number[lookback:]  # (B, lookback + S), (S,)
        yield Chunk(
            episodes=torch.from_numpy(chosen),
            steps=torch.from_numpy(number),
            x=scalings.values(torch.from_numpy(sequences.values[rows])),
            covariates=torch.from_numpy(sequences.covariates[rows]),
            targets=scalings.values(torch.from_numpy(sequences.following(rows[:, lookback:]))),
            mask=torch.from_numpy((number >= history - 1) & (number <= last)),
        )
