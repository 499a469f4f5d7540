"""How the loss fell: by batch, and by epoch.

Shapes: S batches, E epochs.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from foretrace.reports.figures.style import (
    BLUE,
    INK,
    MUTED,
    SKY,
    VERMILLION,
    FloatArray,
    ShortNumbers,
    count_on_x,
    dress,
    house_style,
    legend_above,
    new_panels,
    plain_text,
)

MAX_POINTS = 4_000  # more than this many dots are a solid cloud at 900 px, in a PNG of megabytes
MEDIAN_POINTS, MEDIAN_WIDTHS = 400, (5, 2_001)
LOG_FROM_RATIO, CROWDED_FROM_RATIO = 20.0, 300.0  # from the second on, only powers of ten are labelled


@house_style()
def loss_by_batch(batches: npt.ArrayLike, losses: npt.ArrayLike, *, name: str = "MSE train loss") -> Figure:
    """Draw the training loss of every batch and its running median.

    Up to 4,000 batches are dots. Of more, the lowest and the highest loss in each block of batches bound an
    area, so that no spike is lost and the file stays small. Losses that are not finite are crosses at the
    upper edge.

    Args:
        batches: Number of each batch since training began. Shape (S,).
        losses: Loss of each batch. Shape (S,).
        name: What was measured; labels the y axis.

    Raises:
        ValueError: If there is no batch, or not one loss per batch.

    >>> loss_by_batch([1, 2, 3], [0.9, 0.5, 0.4]).axes[0].get_ylabel()
    'MSE train loss'
    """
    x, y = _columns(batches, losses)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    finite = np.isfinite(y)
    figure, panels = new_panels(1, 1, panel_in=2.4)
    axes = panels[0, 0]
    axes.set(xlabel="batch", ylabel=plain_text(name, longest=32))
    if finite.any():
        _draw_losses(axes, x[finite], y[finite])
        _draw_running_median(axes, x[finite], y[finite])
    if not finite.all():
        _mark_not_finite(axes, x[~finite])
    _finish(axes, x, y)
    legend_above(figure, axes, columns=3)
    return figure


@house_style()
def error_by_epoch(
    epochs: npt.ArrayLike,
    *,
    train: npt.ArrayLike,
    valid: npt.ArrayLike,
    lr: npt.ArrayLike,
    best_epoch: int | None,
    name: str = "MSE",
) -> Figure:
    """Draw the training and the validation error of every epoch, and beside it the learning rate.

    Args:
        epochs: Number of each epoch, ascending. Shape (E,).
        train: Training error; NaN where unknown. Shape (E,).
        valid: Validation error; NaN where unknown. Shape (E,).
        lr: Learning rate during each epoch; NaN where unknown. Shape (E,).
        best_epoch: Epoch whose weights are kept, one of ``epochs``; None where none was chosen.
        name: What was measured; labels the y axis.

    Raises:
        ValueError: If there is no epoch, not one value per epoch, or the best epoch is none of them.

    >>> error_by_epoch([0, 1], train=[2, 1], valid=[3, 2], lr=[0.1, 0.1], best_epoch=1).axes[0].get_xlabel()
    'epoch'
    """
    x, train_error, valid_error, rate = _columns(epochs, train, valid, lr)
    figure, panels = new_panels(1, 2, panel_in=2.3, apart_in=(0.0, 0.9), width_ratios=[2, 1])
    axes, beside = panels[0]
    axes.set(xlabel="epoch", ylabel=plain_text(name, longest=32))
    size = 4.0 if len(x) <= 60 else 0.0
    axes.plot(x, train_error, "-o", color=BLUE, ms=size, lw=1.6, label="training")
    axes.plot(x, valid_error, "--s", color=VERMILLION, ms=size, lw=1.6, label="validation")
    if best_epoch is not None:
        _mark_best(axes, x, valid_error, best_epoch)
    beside.plot(x, rate, "-o", color=INK, ms=size, lw=1.4)
    beside.set(xlabel="epoch", ylabel="learning rate")
    _finish(axes, x, np.concatenate([train_error, valid_error]))
    _finish(beside, x, rate)
    legend_above(figure, axes, columns=3)
    return figure


def _columns(*columns: npt.ArrayLike) -> list[FloatArray]:
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(f"expected columns of one length, at least 1, received shapes {shapes}")
    return arrays


def _draw_losses(axes: Axes, x: FloatArray, y: FloatArray) -> None:
    if len(x) <= MAX_POINTS:
        size = 5.0 if len(x) < 100 else 3.2 if len(x) < 1_000 else 2.0
        axes.plot(x, y, "o", color=SKY, markersize=size, markeredgewidth=0, alpha=0.7, label="each batch")
        return
    block = -(-len(x) // (MAX_POINTS // 4))
    firsts = np.arange(0, len(x), block)
    lowest, highest = np.minimum.reduceat(y, firsts), np.maximum.reduceat(y, firsts)
    label = f"lowest to highest of {block:,} batches"
    axes.fill_between(x[firsts], lowest, highest, color=SKY, alpha=0.45, linewidth=0, label=label)


def _draw_running_median(axes: Axes, x: FloatArray, y: FloatArray) -> None:
    """Draw medians over a thirtieth of the batches at a time, at a few hundred places: no screen shows more."""
    width = int(np.clip(len(x) // 30, *MEDIAN_WIDTHS)) | 1
    if len(x) < 2 * width:
        return
    stride = max(1, len(x) // MEDIAN_POINTS)
    windows = np.lib.stride_tricks.sliding_window_view(y, width)[::stride]
    centers = x[width // 2 : len(x) - width // 2 : stride]
    medians = np.median(windows, axis=1)
    label = f"running median of {width:,} batches, last {medians[-1]:.3g}"
    axes.plot(centers, medians, "-", color=BLUE, linewidth=1.8, label=label)


def _mark_not_finite(axes: Axes, x: FloatArray) -> None:
    some = x[np.linspace(0, len(x) - 1, min(len(x), 200)).astype(int)]
    label = f"not finite: {len(x):,}, the first at {x[0]:,.0f}"
    at_the_edge = axes.get_xaxis_transform()
    axes.plot(some, np.ones(len(some)), "x", color=INK, transform=at_the_edge, clip_on=False, label=label)


def _mark_best(axes: Axes, x: FloatArray, valid: FloatArray, best_epoch: int) -> None:
    found = np.flatnonzero(x == best_epoch)
    if not len(found):
        raise ValueError(f"expected a best epoch from {x[0]:.0f} to {x[-1]:.0f}, received {best_epoch}")
    value = valid[found[0]]
    label = f"best validation: {value:.3g} in epoch {best_epoch}"
    axes.plot(best_epoch, value, "*", color=INK, ms=13, mec="white", zorder=5, label=label)


def _finish(axes: Axes, x: FloatArray, values: FloatArray) -> None:
    """Span all of ``x``, choose the y scale by the range of the values, and dress both axes."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if not len(known):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=MUTED)
    elif low > 0 and high >= low * LOG_FROM_RATIO:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axes.yaxis.set_minor_formatter("" if high >= low * CROWDED_FROM_RATIO else "{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.yaxis.set_major_formatter(ShortNumbers())
    margin = 0.03 * np.ptp(x) or 0.6
    axes.set_xlim(x.min() - margin, x.max() + margin)
    count_on_x(axes)
    dress(axes)
