"""How the loss fell: by batch, and by epoch.

Shapes: S batches, E epochs.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, NullFormatter

from foretrace.reports.figures.style import (
    BLUE,
    INK,
    MUTED,
    SKY,
    VERMILLION,
    count_on_x,
    dress,
    house_style,
    new_figure,
    plain_text,
)

FloatArray = npt.NDArray[np.float64]

MAX_POINTS = 4_000  # more than this many dots are a solid cloud at 900 px, in a PNG of megabytes
MEDIAN_POINTS, MEDIAN_WIDTHS = 400, (5, 2_001)
LOG_FROM_RATIO, CROWDED_FROM_RATIO = 20.0, 100.0  # from the second on, only powers of ten are labelled
MAX_RATE_MARKS, RATE_MARK_WIDTH = 6, 0.1  # the width of "lr 0.0001" as a share of the axis


@house_style()
def loss_by_batch(batches: npt.ArrayLike, losses: npt.ArrayLike, *, name: str = "MSE train loss") -> Figure:
    """Draws the training loss of every batch and its running median.

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
    figure = new_figure(3.8)
    axes = figure.add_subplot(xlabel="batch", ylabel=plain_text(name, longest=48))
    if finite.any():
        _draw_losses(axes, x[finite], y[finite])
        _draw_running_median(axes, x[finite], y[finite])
    if not finite.all():
        _mark_not_finite(axes, x[~finite])
    _finish(axes, x, y)
    figure.legend(loc="outside upper left", ncols=2)
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
    """Draws the training and the validation error of every epoch, with the learning rate that led there.

    A learning rate that changes a few times is written above the axes where each new value begins; one that
    changes all the time gets a panel of its own.

    Args:
        epochs: Number of each epoch, ascending. Shape (E,).
        train: Training error; NaN where unknown. Shape (E,).
        valid: Validation error; NaN where unknown. Shape (E,).
        lr: Learning rate during each epoch; NaN where unknown. Shape (E,).
        best_epoch: The epoch whose weights are kept, one of ``epochs``; None where none was chosen.
        name: What was measured; labels the y axis.

    Raises:
        ValueError: If there is no epoch, not one value per epoch, or the best epoch is none of them.

    >>> error_by_epoch([0, 1], train=[2, 1], valid=[3, 2], lr=[0.1, 0.1], best_epoch=1).axes[0].get_xlabel()
    'epoch'
    """
    x, train_error, valid_error, rate = _columns(epochs, train, valid, lr)
    starts = _rate_starts(rate)
    marked = _marks_fit(x, starts)
    figure = new_figure(3.8 if marked else 5.0)
    heights = [1] if marked else [3, 1]
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    axes = panels[0]
    axes.set_ylabel(plain_text(name, longest=48))
    size = 4.0 if len(x) <= 60 else 0.0
    axes.plot(x, train_error, "-o", color=BLUE, ms=size, lw=1.6, label="training")
    axes.plot(x, valid_error, "--s", color=VERMILLION, ms=size, lw=1.6, label="validation")
    if best_epoch is not None:
        _mark_best(axes, x, valid_error, best_epoch)
    if marked:
        _mark_rates(axes, x, rate, starts)
    else:
        _draw_rates(panels[1], x, rate)
    _finish(axes, x, np.concatenate([train_error, valid_error]))
    panels[-1].set_xlabel("epoch")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
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
    """Draws medians over a thirtieth of the batches at a time, at a few hundred places: no screen shows more."""
    width = int(np.clip(len(x) // 30, *MEDIAN_WIDTHS)) | 1
    if len(x) < 2 * width:
        return
    stride = max(1, len(x) // MEDIAN_POINTS)
    windows = np.lib.stride_tricks.sliding_window_view(y, width)[::stride]
    centres = x[width // 2 : len(x) - width // 2 : stride]
    medians = np.median(windows, axis=1)
    label = f"running median of {width:,} batches, last {medians[-1]:.3g}"
    axes.plot(centres, medians, "-", color=BLUE, linewidth=1.8, label=label)


def _mark_not_finite(axes: Axes, x: FloatArray) -> None:
    some = x[np.linspace(0, len(x) - 1, min(len(x), 200)).astype(int)]
    label = f"not finite: {len(x):,}, the first at {x[0]:,.0f}"
    at_the_edge = axes.get_xaxis_transform()
    axes.plot(some, np.ones(len(some)), "x", color=INK, transform=at_the_edge, clip_on=False, label=label)


def _rate_starts(rate: FloatArray) -> list[int]:
    """Indices of the epochs at which a known learning rate differs from the last known one."""
    known = np.flatnonzero(np.isfinite(rate))
    if not len(known):
        return []
    changed = ~np.isclose(rate[known[1:]], rate[known[:-1]], rtol=1e-6, atol=0.0)
    return [int(known[0]), *(int(k) for k in known[1:][changed])]


def _marks_fit(x: FloatArray, starts: list[int]) -> bool:
    gaps = np.diff(x[starts])
    return len(starts) <= MAX_RATE_MARKS and bool(np.all(gaps >= RATE_MARK_WIDTH * np.ptp(x)))


def _mark_rates(axes: Axes, x: FloatArray, rate: FloatArray, starts: list[int]) -> None:
    """Writes each rate above the axes, where no data can be, at the border before its first epoch."""
    above = axes.get_xaxis_transform()
    for start in starts:
        border = x[start] if start == 0 else (x[start - 1] + x[start]) / 2
        if start != starts[0]:
            axes.axvline(border, color=MUTED, linestyle=":", linewidth=1.2, zorder=1)
        axes.text(border, 1.02, f"lr {rate[start]:.3g}", transform=above, color=MUTED, va="bottom")


def _draw_rates(axes: Axes, x: FloatArray, rate: FloatArray) -> None:
    axes.plot(x, rate, "-", color=INK, linewidth=1.4)
    axes.set_ylabel("learning rate")
    _finish(axes, x, rate)


def _mark_best(axes: Axes, x: FloatArray, valid: FloatArray, best_epoch: int) -> None:
    found = np.flatnonzero(x == best_epoch)
    if not len(found):
        raise ValueError(f"expected a best epoch from {x[0]:.0f} to {x[-1]:.0f}, received {best_epoch}")
    value = valid[found[0]]
    label = f"best validation: {value:.3g} in epoch {best_epoch}"
    axes.plot(best_epoch, value, "*", color=INK, ms=13, mec="white", zorder=5, label=label)


def _finish(axes: Axes, x: FloatArray, values: FloatArray) -> None:
    """Spans all of ``x``, chooses the y scale by the range of the values, and dresses both axes."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if not len(known):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=MUTED)
    elif low > 0 and high >= low * LOG_FROM_RATIO:
        axes.set_yscale("log")
        crowded = high >= low * CROWDED_FROM_RATIO
        minor = NullFormatter() if crowded else LogFormatterSciNotation(minor_thresholds=(3.0, 1.0))
        axes.yaxis.set_minor_formatter(minor)
    margin = 0.03 * np.ptp(x) or 0.6
    axes.set_xlim(x.min() - margin, x.max() + margin)
    count_on_x(axes)
    dress(axes)
