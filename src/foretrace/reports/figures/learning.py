"""How a network learned: the loss by batch and by epoch, its weights and gradients, and its gates.

Shapes: S batches, E epochs, T steps, H hidden units of a layer, L layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullLocator

from foretrace.reports.figures.style import (
    BLUE,
    DIVERGING,
    INK,
    MUTED,
    SKY,
    VERMILLION,
    Clock,
    FloatArray,
    count_on_x,
    draw_over_time,
    dress,
    entitle,
    house_style,
    legend_above,
    new_panels,
    plain_text,
)

MAX_POINTS = 4_000  # more dots than this are a solid cloud at 900 px, in a PNG of megabytes
MEDIAN_POINTS = 400
LOG_FROM_RATIO, CROWDED_FROM_RATIO = 20.0, 300.0  # from the second on, only powers of ten are labelled
GATES = {"i": "input gate i", "f": "forget gate f", "o": "output gate o", "g": "candidate g"}
OPEN, SHUT = 0.9, 0.1
SEQUENTIAL = "viridis"  # one order of lightness, told apart by color-blind people; a deeper layer is lighter
DASHES = ("-", (0, (6, 1.5)), (0, (1.5, 1.2)), (0, (7, 1.5, 1.5, 1.5)))
MARKED_EPOCHS = 20
HUNDREDTH = 0.01
SHOWN_DOWN_TO = 1e-8  # of the last step's gradient: below it, single precision is noise


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


@house_style()
def gate_pictures(
    gates: Mapping[str, Mapping[str, npt.ArrayLike]],
    *,
    dt_s: float | None,
    dates: npt.ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw a row of images per layer: its three gates and its candidate, time to the right, a unit per line.

    The units of a layer are in the order of their mean forget gate, alike in its four images: those that forget
    fastest lie on top. Above each image stand the shares of it that are open (> 0.9) and shut (< 0.1), or
    saturated (|g| > 0.9). Each layer has arrays i, f, o and g, each (T, H); other keys are left out.
    """
    figure, panels = new_panels(
        len(gates), len(GATES), height_in=1.5 + 1.7 * len(gates), grid=False, sharex=True
    )
    for number, (row, (name, named)) in enumerate(zip(panels, gates.items(), strict=True), 1):
        arrays = {gate: np.asarray(named[gate], np.float64) for gate in GATES}
        clock = Clock.of(len(arrays["f"]), dt_s=dt_s, dates=dates)
        images = _draw_layer(row, arrays, clock, is_last=number == len(gates))
        row[0].set_ylabel(f"{plain_text(name, longest=12)}: unit")
    for axes, gate in zip(panels[0], GATES, strict=True):
        axes.set_title(GATES[gate], pad=15)
    for gate, under, aspect, label in (
        ("o", panels[:, :3], 60, "gate: 0 shut, 1 open"),
        ("g", panels[:, 3], 20, "candidate"),
    ):
        place: dict[str, Any] = {"location": "bottom", "shrink": 0.9, "aspect": aspect, "pad": 0.02}
        dress(figure.colorbar(images[gate], ax=under, label=label, **place).ax, grid=False, labelsize=8)
    entitle(figure, title, "Units in the order of their mean forget gate: above, those that forget fastest")
    return figure


@house_style()
def gradient_flow(h: npt.ArrayLike, c: npt.ArrayLike, *, layers: Sequence[str]) -> Figure:
    """Draw how much of a gradient is left on its way back from the loss of the last step.

    Each line is relative to its own value at the last step, so that all start at 1. Dashed lines mark 1, where
    gradients neither vanish nor explode, and a hundredth. A gradient of exactly zero has no place on a
    logarithmic axis: its line ends. The norms of ∂L/∂h_t and ∂L/∂c_t have shape (L, T), the last step last.
    """
    figure, panels = new_panels(1, 2, height_in=3.5, sharey=True)
    for axes, norms, state in zip(panels[0], (h, c), ("output, ∂L/∂h", "cell, ∂L/∂c"), strict=True):
        for depth, (name, values) in enumerate(zip(layers, np.asarray(norms)[:, ::-1], strict=True)):
            left = values / values[0] if values[0] > 0 else np.full(len(values), np.nan)
            shown = np.where(left > SHOWN_DOWN_TO, left, np.nan)
            axes.plot(shown, **_line_style(depth, len(layers)), label=plain_text(name))
        axes.axhline(1, color=INK, lw=1, ls="--", zorder=1, label="neither vanishes nor explodes")
        axes.axhline(HUNDREDTH, color=MUTED, lw=1, ls=":", zorder=1, label="a hundredth")
        axes.set(title=state, xlabel="steps back from the loss", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.02)
        count_on_x(axes)
    panels[0, 0].set_ylabel("norm, relative to the last step")
    legend_above(figure, panels[0, 1])
    return figure


@house_style()
def layer_norms(
    epochs: npt.ArrayLike, *, norms: Mapping[str, npt.ArrayLike], updates: Mapping[str, npt.ArrayLike]
) -> Figure:
    """Draw how large each layer's weights are, relative to the first epoch, and how far an epoch moves them.

    A layer that never moved has no place on the logarithmic axis of the updates: the legend says so. By layer, the
    norms are ‖W‖ after each epoch and the updates ‖ΔW‖ / ‖W‖ in it; each (E,).
    """
    x = np.asarray(epochs, np.float64)
    figure, [[left, right]] = new_panels(1, 2, height_in=3.3)
    for place, name in enumerate(norms):
        norm, update = (np.asarray(values[name], np.float64) for values in (norms, updates))
        style = _line_style(place, len(norms))
        style |= {"marker": "o" if len(x) <= MARKED_EPOCHS else "", "markersize": 4}
        label = plain_text(name) + ("" if (update != 0).any() else " (never moved)")
        left.plot(x, norm / (norm[0] or 1.0), **style, label=label)
        right.plot(x, np.where(update > 0, update, np.nan), **style)
    left.set_ylabel("‖W‖ relative to the first epoch")
    right.set_ylabel("update of an epoch, ‖ΔW‖ / ‖W‖")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        count_on_x(axes)
    right.set_yscale("log")
    legend_above(figure, left)
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


def _draw_layer(
    row: Sequence[Axes], arrays: dict[str, FloatArray], clock: Clock, *, is_last: bool
) -> dict[str, AxesImage]:
    """Draw a layer's four images, and return them by their gates."""
    order = np.argsort(arrays["f"].mean(axis=0), kind="stable")  # NaN goes last
    images, num_units = {}, len(order)
    for axes, (gate, values) in zip(row, arrays.items(), strict=True):
        is_candidate = gate == "g"
        colors, low = (DIVERGING, -1) if is_candidate else (SEQUENTIAL, 0)
        images[gate] = draw_over_time(axes, values[:, order], clock, colors=colors, low=low, high=1, first=1)
        clock.dress(axes, most=4, label=is_last)
        axes.set_yticks(np.unique(np.linspace(1, num_units, 3).round()))
        axes.tick_params(left=gate == "i", labelleft=gate == "i")
        share = f"open {(values > OPEN).mean():.0%}, shut {(values < SHUT).mean():.0%}"
        if is_candidate:
            share = f"saturated {(np.abs(values) > OPEN).mean():.0%}"
        axes.text(0, 1.02, share, transform=axes.transAxes, color=MUTED, fontsize=8)
    return images


def _line_style(place: int, count: int) -> dict[str, Any]:
    """Color by depth, and dashes for who sees none."""
    shade = 0.8 * place / max(1, count - 1)
    return {
        "color": matplotlib.colormaps[SEQUENTIAL](shade),
        "linestyle": DASHES[place % len(DASHES)],
        "linewidth": 1.7,
    }
