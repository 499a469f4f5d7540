"""Whole episodes read side by side, in pieces that fit into memory however long the episodes are.

Shapes: B episodes in a piece, S steps in it, F features, K covariates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretrace.data.sequences import IntArray, Sequences
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
        """Copies the model's scaling."""
        pair = (
            Standardizer(part.mean.cpu(), part.scale.cpu())
            for part in (model.scaling, model.covariate_scaling)
        )
        return cls(*pair)

    def inputs(self, x: Tensor, covariates: Tensor) -> Tensor:
        """What a linear forecast reads: scaled values x and raw covariates, in double precision (…, F + K)."""
        return torch.cat([x, self.covariates(covariates)], dim=-1).double()


@dataclass(frozen=True, eq=False, kw_only=True)
class Piece:
    """Some steps of some episodes, with what came one step after each.

    Args:
        episodes: Which episodes. Shape (B,).
        begins: Whether these are the episodes' first steps; else they follow those of the piece before.
        x: Scaled values, ``back`` steps more than S at the front. Shape (B, back + S, F).
        covariates: Raw covariates of the same steps. Shape (B, back + S, K).
        targets: Scaled values one step later. Shape (B, S, F).
        counted: Which steps exist and are to count; the others hold something finite. Shape (B, S).
    """

    episodes: Tensor
    begins: bool
    x: Tensor
    covariates: Tensor
    targets: Tensor
    counted: Tensor


def pieces(sequences: Sequences, *, scalings: Scalings, history: int, back: int) -> Iterator[Piece]:
    """Reads every episode from its first step to its last.

    Args:
        sequences: The episodes.
        scalings: The units of x and targets.
        history: Steps that must have been read before a forecast counts, the present one included, >= 1.
        back: Steps before a piece that come with it, < ``history``.
    """
    steps = num_targets(sequences)  # (E,)
    # Episodes of about one length together, and none that has nothing to count.
    order = np.argsort(-steps, kind="stable")
    order = order[steps[order] >= history]
    for chosen in np.split(order, range(EPISODES, len(order), EPISODES)) if len(order) else []:
        for first in range(0, int(steps[chosen].max()), STEPS):
            end = min(first + STEPS, int(steps[chosen].max()))
            yield _read(sequences, scalings, chosen, np.arange(first, end), history=history, back=back)


def num_targets(sequences: Sequences) -> IntArray:
    """Steps of each episode whose next step is known. Shape (E,)."""
    followed: IntArray = sequences.lengths - (1 if sequences.next_values is None else 0)
    return followed


def _read(
    sequences: Sequences,
    scalings: Scalings,
    chosen: IntArray,
    steps: IntArray,
    *,
    history: int,
    back: int,
) -> Piece:
    first, last = sequences.bounds[chosen, :1], num_targets(sequences)[chosen, None] - 1
    with_back = np.concatenate([np.arange(steps[0] - back, steps[0]), steps])
    rows = first + np.clip(with_back, 0, last)  # (B, back + S)
    after, shift = (sequences.values, 1) if sequences.next_values is None else (sequences.next_values, 0)
    return Piece(
        episodes=torch.from_numpy(chosen),
        begins=bool(steps[0] == 0),
        x=scalings.values(torch.from_numpy(sequences.values[rows])),
        covariates=torch.from_numpy(sequences.covariates[rows]),
        targets=scalings.values(torch.from_numpy(after[rows[:, back:] + shift])),
        counted=torch.from_numpy((steps >= history - 1) & (steps <= last)),
    )
