"""Units in, units out: the scaling that belongs to a model.

Shapes: F features.
"""

import torch
from torch import Tensor, nn


class Standardizer(nn.Module):
    """Maps sequences to zero mean and unit variance per feature, and back.

    The statistics are buffers, so a checkpoint predicts in the data's own units by itself.
    A feature that never varies keeps its value (scale 1) instead of dividing by zero.

    Args:
        mean: Training mean per feature, in the data's units. Shape (F,).
        std: Training standard deviation per feature, >= 0. Shape (F,).

    Raises:
        ValueError: If the shapes differ or a statistic is not finite.

    >>> scaling = Standardizer(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
    >>> scaling(torch.tensor([3.0, 5.0])).tolist(), scaling.inverse(torch.tensor([1.0, 0.0])).tolist()
    ([1.0, 0.0], [3.0, 5.0])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.shape != std.shape:
            raise ValueError(f"mean and std need one shape, got {tuple(mean.shape)} and {tuple(std.shape)}")
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise ValueError("mean and std need finite values")
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(std.float() > 0, std.float(), 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Raw values (..., F) to scaled ones."""
        return (values - self.mean) / self.scale

    def inverse(self, scaled: Tensor) -> Tensor:
        """Scaled values (..., F) to raw ones."""
        return scaled * self.scale + self.mean
