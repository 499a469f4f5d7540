"""One-step errors from a cold and from a warm state, each named for what it is.

Cold: the state is zero at the start of each window, so the first forecasts know one step. The published protocols
are cold. Warm: the state is carried from the beginning of the episode, as in use.

Shapes: B windows or episodes, T steps of a window, S steps of a piece, E episodes, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.baselines import LinearForecast
from foretrace.evaluation.chunks import Scalings, num_targets, pieces
from foretrace.evaluation.episode_errors import MODEL, EpisodeErrors, ErrorSums, FloatArray
from foretrace.model.lstm import State
from foretrace.model.next_step import NextStepModel

PERSISTENCE = "persistence"  # the one baseline that can forecast from a window's first step
BATCH = 256  # windows at once


@dataclass(frozen=True, eq=False, kw_only=True)
class ZeroStateErrors:
    """What a state of zero costs, by the position in the window.

    Args:
        by_position: Mean squared error per position and feature, in scaled units, of the model and of
            persistence. The baselines with more context have none at a window's start. Shapes (T, F).
        errors: The same over all positions, per episode. Shapes (E, F).

    >>> cold = ZeroStateErrors(by_position={"model": np.array([[0.5, 1.5], [0.1, 0.3]])}, errors={})
    >>> cold.mean_by_position("model").tolist()
    [1.0, 0.2]
    """

    by_position: dict[str, FloatArray]
    errors: dict[str, EpisodeErrors]

    @property
    def num_positions(self) -> int:
        """Steps in a window, T."""
        return len(self.by_position[MODEL])

    def mean_by_position(self, name: str) -> FloatArray:
        """Mean squared error per position over all features. Shape (T,)."""
        return np.asarray(self.by_position[name].mean(axis=-1))


@dataclass(frozen=True, eq=False, kw_only=True)
class CarriedStateErrors:
    """One-step errors with the state carried from the beginning of each episode.

    Only forecasts made after ``warmup`` steps were read count, for the model and for all baselines alike: then
    each of them has the history that it needs, and all are compared on the very same steps.

    Args:
        warmup: Steps read before the first forecast that counts.
        errors: By the name of the forecast, the model's first. Shapes (E, F).

    >>> one = EpisodeErrors(squared=np.ones((1, 1)), absolute=np.ones((1, 1)), count=np.array([4]))
    >>> CarriedStateErrors(warmup=50, errors={"model": one}).skipped
    0
    """

    warmup: int
    errors: dict[str, EpisodeErrors]

    @property
    def skipped(self) -> int:
        """Episodes that end before the warm-up does."""
        return int((self.errors[MODEL].count == 0).sum())


def evaluate_zero_state(model: NextStepModel, windows: Windows) -> ZeroStateErrors:
    """One-step errors of the model and of persistence on whole windows, from a state of zero."""
    num_features = windows.sequences.values.shape[1]
    names = (MODEL, PERSISTENCE)
    sums = {name: ErrorSums(len(windows.sequences), (num_features,)) for name in names}
    squared = {name: torch.zeros(windows.length, num_features, dtype=torch.float64) for name in names}
    everywhere = torch.ones(BATCH, windows.length, dtype=torch.bool)
    model.eval()
    for chosen in torch.split(torch.arange(len(windows)), BATCH):
        values, covariates, targets, _ = windows.gather(chosen)
        with torch.inference_mode():
            x, y = model.scaling(values), model.scaling(targets)
            forecast, _ = model.forward_scaled(x, covariates)
        episodes = windows.origins(chosen)[:, 0].cpu()
        for name, tensor in zip(names, (forecast, x), strict=True):
            error = tensor.cpu().double() - y.cpu()
            squared[name] += error.square().sum(dim=0)
            sums[name].add_steps(episodes, error, everywhere[: len(chosen)])
    return ZeroStateErrors(
        by_position={name: (total / len(windows)).numpy() for name, total in squared.items()},
        errors={name: total.errors() for name, total in sums.items()},
    )


def evaluate_carried_state(
    model: NextStepModel, baselines: Sequence[LinearForecast], sequences: Sequences, *, warmup: int
) -> CarriedStateErrors:
    """One-step errors of the model and of the baselines on the same steps of whole episodes.

    Raises:
        ValueError: If no episode outlasts the warm-up (see `carried_state_unavailable`), or a baseline needs more.
    """
    if obstacle := carried_state_unavailable(sequences, warmup=warmup):
        raise ValueError(obstacle)
    back = max(baseline.context for baseline in baselines) - 1
    if back >= warmup:
        raise ValueError(f"a baseline reads {back + 1} steps, the warm-up has {warmup}")
    shape = sequences.values.shape[1:]
    sums = {name: ErrorSums(len(sequences), shape) for name in (MODEL, *(b.name for b in baselines))}
    scalings, device, state = Scalings.of(model), model.change.device, None
    model.eval()
    for piece in pieces(sequences, scalings=scalings, history=warmup, back=back):
        x, covariates = piece.x[:, back:].to(device), piece.covariates[:, back:].to(device)
        before: State | None = None if piece.begins else state
        with torch.inference_mode():
            forecast, state = model.forward_scaled(x, covariates, before)
        sums[MODEL].add_steps(piece.episodes, forecast.cpu().double() - piece.targets, piece.counted)
        inputs = scalings.inputs(piece.x, piece.covariates)
        for baseline in baselines:
            error = baseline.steps(inputs[:, back + 1 - baseline.context :]) - piece.targets
            sums[baseline.name].add_steps(piece.episodes, error, piece.counted)
    return CarriedStateErrors(warmup=warmup, errors={name: total.errors() for name, total in sums.items()})


def carried_state_unavailable(sequences: Sequences, *, warmup: int) -> str:
    """Why there is no warm error; empty if there is one."""
    longest = int(num_targets(sequences).max(initial=0))
    if longest < warmup:
        return (
            f"no episode has {warmup} steps to read and one more: the longest has {longest} with a next one"
        )
    return ""
