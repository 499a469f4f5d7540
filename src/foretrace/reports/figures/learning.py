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
    count_on_x,
    house_style,
    legend_above,
    new_panels,
    plain_text,
)

MAX_POINTS = 4_000  # more dots than this are a solid cloud at 900 px, in a PNG of megabytes
MEDIAN_POINTS = 400
LOG_FROM_RATIO, CROWDED_FROM_RATIO = 20.0, 300.0  # from the second on, only powers of ten are labelled


@house_style()
def loss_by_batch(batches: npt.ArrayLike, losses: npt.ArrayLike, *, name: str = "MSE train loss") -> Figure:
    """Draw the training loss of every batch and its running median over a thirtieth of the batches.

    Up to 4,000 batches are dots. Of more, the lowest and the highest loss in each block of batches bound an
    area, so that no spike is lost and the file stays small. Losses that are not finite are crosses at the
    upper edge. Batches (S,) are numbered since training began; the name labels the y axis.
    """
    steps, values = np.asarray(batches, np.float64), np.asarray(losses, np.float64)
    finite = np.isfinite(values)
    x, y = steps[finite], values[finite]
    figure, [[axes]] = new_panels(1, 1, height_in=3.3)
    axes.set(xlabel="batch", ylabel=plain_text(name, longest=32))
    if len(x) <= MAX_POINTS:
        size = 5.0 if len(x) < 100 else 3.2 if len(x) < 1_000 else 2.0
        axes.plot(x, y, "o", color=SKY, ms=size, mew=0, alpha=0.7, label="each batch")
    else:
        block = -(-len(x) // (MAX_POINTS // 4))
        firsts = np.arange(0, len(x), block)
        ends = np.minimum.reduceat(y, firsts), np.maximum.reduceat(y, firsts)
        label = f"lowest to highest of {block:,} batches"
        axes.fill_between(x[firsts], *ends, color=SKY, alpha=0.45, lw=0, label=label)
    width = int(np.clip(len(x) // 30, 5, 2_001)) | 1
    if len(x) >= 2 * width:
        stride = max(1, len(x) // MEDIAN_POINTS)
        medians = np.median(np.lib.stride_tricks.sliding_window_view(y, width)[::stride], axis=1)
        centers = x[width // 2 : len(x) - width // 2 : stride]
        label = f"running median of {width:,} batches, last {medians[-1]:.3g}"
        axes.plot(centers, medians, color=BLUE, lw=1.8, label=label)
    if not finite.all():
        lost = steps[~finite]
        label = f"not finite: {len(lost):,}, the first at {lost[0]:,.0f}"
        some = lost[np.linspace(0, len(lost) - 1, min(len(lost), 200)).astype(int)]
        edge = axes.get_xaxis_transform()
        axes.plot(some, np.ones(len(some)), "x", color=INK, transform=edge, clip_on=False, label=label)
    _finish(axes, steps, values)
    legend_above(figure, axes)
    return figure


@house_style()
def error_by_epoch(
    epochs: npt.ArrayLike,
    *,
    train: npt.ArrayLike,
    valid: npt.ArrayLike,
    lr: npt.ArrayLike,
    best_epoch: int | None,
) -> Figure:
    """Draw the mean squared error in training and validation of every epoch, and beside it the learning rate.

    All are of shape (E,), NaN where unknown. The weights of the best epoch are kept; None where none was chosen.
    """
    x, *columns = (np.asarray(column, np.float64) for column in (epochs, train, valid, lr))
    figure, [[axes, beside]] = new_panels(1, 2, height_in=3.2, width_ratios=[2, 1])
    size = 4.0 if len(x) <= 60 else 0.0
    axes.plot(x, columns[0], "-o", color=BLUE, ms=size, lw=1.6, label="training")
    axes.plot(x, columns[1], "--s", color=VERMILLION, ms=size, lw=1.6, label="validation")
    if best_epoch is not None:
        value = columns[1][list(x).index(best_epoch)]
        label = f"best validation: {value:.3g} in epoch {best_epoch}"
        axes.plot(best_epoch, value, "*", color=INK, ms=13, mec="white", zorder=5, label=label)
    beside.plot(x, columns[2], "-o", color=INK, ms=size, lw=1.4)
    axes.set(xlabel="epoch", ylabel="MSE")
    beside.set(xlabel="epoch", ylabel="learning rate")
    _finish(axes, x, np.concatenate(columns[:2]))
    _finish(beside, x, columns[2])
    legend_above(figure, axes)
    return figure


def _finish(axes: Axes, x: FloatArray, values: FloatArray) -> None:
    """Span all of ``x``, and choose the y scale by the range of the values."""
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
        axes.yaxis.set_major_formatter("{x:.7g}")  # no offset in a title's place
    margin = 0.03 * np.ptp(x) or 0.6
    axes.set_xlim(x.min() - margin, x.max() + margin)
    count_on_x(axes)
