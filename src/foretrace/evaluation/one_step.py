"""One-step errors over whole parts, beside those of repeating the last value.

Shapes: B windows, T steps, F features.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Batch
from foretrace.model.next_step import NextStepModel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Errors:
    """Mean squared and mean absolute error per feature, over all windows and steps.

    Args:
        mse: Shape (F,).
        l1: Shape (F,).

    Raises:
        ValueError: If a mean absolute error exceeds the root of the mean squared one. No errors can do that
            (Jensen's inequality), so one of the two figures is not what it is called.

    >>> Errors(np.array([0.04]), np.array([0.1])).mean_l1
    0.1
    """

    mse: FloatArray
    l1: FloatArray

    def __post_init__(self) -> None:
        pairs = [*zip(self.mse, self.l1, strict=True), (self.mean_mse, self.mean_l1)]
        for mse, l1 in pairs:
            if l1 > math.sqrt(mse) * (1 + 1e-4):  # single precision sums differ by less
                raise ValueError(f"no errors have a mean |e| of {l1:.6g} and a mean e² of {mse:.6g}")

    @property
    def mean_mse(self) -> float:
        """Mean squared error over all elements."""
        return float(self.mse.mean())

    @property
    def mean_l1(self) -> float:
        """Mean absolute error over all elements."""
        return float(self.l1.mean())


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """A model's one-step errors and those of the persistence forecast on the same steps.

    ``scaled`` errors are in units of each feature's training standard deviation, as the loss is; ``raw`` ones
    in the data's own units, in which features of different units are averaged all the same.
    """

    feature_names: tuple[str, ...]
    scaled: Errors
    raw: Errors
    persistence_scaled: Errors
    persistence_raw: Errors

    @property
    def skill(self) -> float:
        """1 − MSE / MSE of repeating the last value: 1 is perfect, 0 no better, negative worse."""
        return skill(self.scaled.mean_mse, self.persistence_scaled.mean_mse)

    def metrics(self) -> dict[str, float]:
        """The figures by the names under which they are tracked."""
        pairs = {
            "test/": self.scaled,
            "test/raw/": self.raw,
            "persistence/": self.persistence_scaled,
            "persistence/raw/": self.persistence_raw,
        }
        named = {f"{at}mse": errors.mean_mse for at, errors in pairs.items()}
        named |= {f"{at}l1": errors.mean_l1 for at, errors in pairs.items()}
        return named | {"skill": self.skill}


def skill(mse: float, reference_mse: float) -> float:
    """Share of the reference's mean squared error that is saved.

    >>> skill(0.25, 1.0), skill(0.0, 0.0)
    (0.75, 0.0)
    """
    if reference_mse == 0:
        return 0.0 if mse == 0 else -math.inf
    return 1 - mse / reference_mse


def evaluate_one_step(
    model: NextStepModel, batches: Iterable[Batch], *, feature_names: tuple[str, ...]
) -> Evaluation:
    """Compares one-step forecasts with what came, from a state of zero at each window's start."""
    names = ("scaled", "raw", "persistence_scaled", "persistence_raw")
    collected = {name: _Collector(len(feature_names)) for name in names}
    model.eval()
    with torch.inference_mode():
        for values, covariates, targets, _ in batches:
            x, y = model.scaling(values), model.scaling(targets)
            forecast, _ = model.forward_scaled(x, covariates)
            collected["scaled"].update(forecast, y)
            collected["raw"].update(model.scaling.inverse(forecast), targets)
            collected["persistence_scaled"].update(x, y)
            collected["persistence_raw"].update(values, targets)
    errors = {name: collector.compute() for name, collector in collected.items()}
    return Evaluation(feature_names=feature_names, **errors)


def forecast_episode(
    model: NextStepModel, sequences: Sequences, index: int, *, max_steps: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One-step forecasts over the beginning of an episode, the state carried all along.

    Returns:
        Forecasts and what came, in raw units; each (T, F) with T <= max_steps.
    """
    first, end = sequences.bounds[index]
    after = (
        sequences.values[first + 1 : end]
        if sequences.next_values is None
        else sequences.next_values[first:end]
    )
    steps = min(len(after), max_steps)
    device = model.change.device
    values, covariates = (
        torch.from_numpy(array[None, first : first + steps]).to(device)
        for array in (sequences.values, sequences.covariates)
    )
    model.eval()
    with torch.inference_mode():
        forecast, _ = model(values, covariates)
    return forecast[0].cpu().numpy(), after[:steps]


class _Collector:
    """Both errors per feature, in double precision: the square of 1e30, or of 1e-30, is no single one."""

    def __init__(self, num_features: int) -> None:
        self.mse = MeanSquaredError(num_outputs=num_features).set_dtype(torch.float64)
        self.l1 = MeanAbsoluteError(num_outputs=num_features).set_dtype(torch.float64)

    def update(self, forecast: Tensor, target: Tensor) -> None:
        flat, flat_target = (
            tensor.flatten(0, 1).cpu().double().contiguous() for tensor in (forecast, target)
        )  # (B T, F)
        self.mse.update(flat, flat_target)
        self.l1.update(flat, flat_target)

    def compute(self) -> Errors:
        return Errors(*(metric.compute().reshape(-1).numpy() for metric in (self.mse, self.l1)))
