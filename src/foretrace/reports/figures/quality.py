"""How good the forecasts are: by horizon, by feature, by position in the window, and what their errors look like.

Shapes: H steps ahead, F features, T positions in a window, S steps of an episode.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

MODEL = "model"
# Colour and line style of each forecast: told apart without colour, too. The model's is the one that forecasts
# have in all pictures, and what repeats a recorded value has the colour of recordings.
LOOKS = {
    MODEL: (VERMILLION, "-", 2.2),
    "persistence": (BLUE, "--", 1.4),
    "velocity": ("#CC79A7", ":", 1.6),
    "mean": (MUTED, "-.", 1.4),
    "ridge": ("#009E73", (0, (5, 1, 1, 1, 1, 1)), 1.6),
}
MAX_LAG = 50


@house_style()
def error_by_horizon(
    errors: Mapping[str, npt.ArrayLike],
    *,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    dt_s: float | None = None,
) -> Figure:
    """Draws the open-loop error of the model and of the baselines against the steps ahead, both on log axes.

    A baseline that runs away leaves the picture at ten times the largest error of the others.

    Args:
        errors: Mean squared error in scaled units by the name of the forecast, the model's under ``model``.
            Each of shape (H,).
        low: Lower end of the model's confidence interval. Shape (H,).
        high: Upper end. Shape (H,).
        dt_s: Time step in seconds; None where unknown.

    >>> error_by_horizon({"model": [0.1, 0.2], "mean": [1.0, 1.0]}).axes[0].get_xlabel()
    'steps ahead'
    """
    curves = {name: np.asarray(curve, np.float64) for name, curve in errors.items()}
    figure = new_figure(4.2)
    axes = figure.add_subplot(xscale="log", yscale="log", ylabel="MSE (training variances)")
    axes.set_xlabel("steps ahead" if dt_s is None else f"steps ahead (of {dt_s:g} s each)")
    steps = np.arange(1, len(curves[MODEL]) + 1)
    if low is not None and high is not None:
        axes.fill_between(steps, np.asarray(low), np.asarray(high), color=VERMILLION, alpha=0.2, linewidth=0)
    for name, curve in curves.items():
        colour, line, width = LOOKS.get(name, (INK, "-", 1.2))
        axes.plot(steps, curve, color=colour, linestyle=line, linewidth=width, label=plain_text(name))
    axes.axhline(1, color=MUTED, linewidth=0.8, zorder=0)
    calm = np.concatenate([curve for name, curve in curves.items() if name != "velocity"])
    calm = calm[np.isfinite(calm) & (calm > 0)]
    if calm.size:
        axes.set_ylim(calm.min() / 2, calm.max() * 10 if "velocity" in curves else calm.max() * 2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    dress(axes)
    figure.legend(loc="outside upper left", ncols=5)
    return figure


@house_style()
def skill_map(skill: npt.ArrayLike, *, feature_names: Sequence[str], horizons: Sequence[int]) -> Figure:
    """Draws the skill against persistence for each feature and horizon; red is worse than the last value.

    Args:
        skill: 1 - MSE / MSE of persistence. Shape (F, H).
        feature_names: F names.
        horizons: H numbers of steps.
    """
    values = np.asarray(skill, np.float64)
    figure = new_figure(1.2 + 0.22 * max(4, len(feature_names)))
    axes = figure.add_subplot(xlabel="steps ahead")
    image = axes.imshow(values, cmap=matplotlib.colormaps["RdBu"], vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(horizons)), [f"{steps:,}" for steps in horizons])
    axes.set_yticks(range(len(feature_names)), [plain_text(name) for name in feature_names])
    if len(feature_names) <= 40:
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if abs(value) > 0.6 else INK
            text = f"{value:.2f}" if value > -10 else "< -10"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    bar = figure.colorbar(image, ax=axes, extend="min", pad=0.015)
    bar.set_label("skill against the last value (1: perfect, 0: no better)")
    dress(axes, grid=False)
    return figure


@house_style()
def error_by_position(errors: Mapping[str, npt.ArrayLike], *, warm: float | None) -> Figure:
    """Draws what the first steps of a window cost, from a state of zero.

    Args:
        errors: Mean squared error by position, of the model and of others. Each of shape (T,).
        warm: The model's error with the state carried, for comparison.
    """
    figure = new_figure(3.4)
    axes = figure.add_subplot(xlabel="position in the window (steps read)", ylabel="MSE (training variances)")
    for name, curve in errors.items():
        colour, line, width = LOOKS.get(name, (INK, "-", 1.2))
        values = np.asarray(curve, np.float64)
        positions = np.arange(1, len(values) + 1)
        axes.plot(positions, values, color=colour, linestyle=line, linewidth=width, label=plain_text(name))
    if warm is not None:
        axes.axhline(warm, color=VERMILLION, linestyle=":", linewidth=1.4, label="model, state carried")
    axes.set_ylim(bottom=0)
    count_on_x(axes)
    dress(axes)
    figure.legend(loc="outside upper left", ncols=4)
    return figure


@house_style()
def residuals(errors: Sequence[npt.ArrayLike]) -> Figure:
    """Draws how one-step errors are distributed, and how long one tells of the next.

    Args:
        errors: Of each episode, in scaled units. Each of shape (S, F).
    """
    parts = [np.asarray(part, np.float64) for part in errors]
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2)
    _draw_histogram(left, np.concatenate([part.ravel() for part in parts]))
    _draw_autocorrelation(right, parts)
    return figure


@house_style()
def distributions(parts: Mapping[str, npt.ArrayLike], *, feature_names: Sequence[str]) -> Figure:
    """Draws where the values of each feature lie in each part: median, middle half, and 1st to 99th percentile.

    Args:
        parts: Quantiles 1, 25, 50, 75 and 99 % in training standard deviations. Each of shape (5, F).
        feature_names: F names.
    """
    figure = new_figure(1.2 + 0.26 * max(4, len(feature_names)))
    axes = figure.add_subplot(xlabel="training standard deviations from the training mean")
    colours = dict(zip(parts, (BLUE, VERMILLION, "#009E73"), strict=False))
    for number, (part, quantiles) in enumerate(parts.items()):
        table = np.asarray(quantiles, np.float64)
        rows = np.arange(table.shape[1]) + 0.25 * (number - (len(parts) - 1) / 2)
        axes.hlines(rows, table[0], table[4], color=colours[part], linewidth=0.9, alpha=0.8)
        axes.hlines(rows, table[1], table[3], color=colours[part], linewidth=3.2, label=plain_text(part))
        axes.plot(table[2], rows, "o", color="white", markeredgecolor=colours[part], markersize=3.2)
    axes.set_yticks(range(len(feature_names)), [plain_text(name) for name in feature_names])
    axes.invert_yaxis()
    dress(axes)
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def _draw_histogram(axes: Axes, pooled: FloatArray) -> None:
    pooled = pooled[np.isfinite(pooled)]
    if not pooled.size:
        return
    spread = float(pooled.std()) or 1.0
    edges = np.linspace(-6 * spread, 6 * spread, 81)
    density, _ = np.histogram(np.clip(pooled, edges[0], edges[-1]), bins=edges, density=True)
    axes.stairs(density, edges, color=BLUE, fill=True, alpha=0.45, label="one-step errors")
    normal = np.exp(-0.5 * (edges / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    axes.plot(edges, normal, color=VERMILLION, linestyle="--", label="normal, same spread")
    kurtosis = float(((pooled - pooled.mean()) ** 4).mean() / spread**4)
    axes.set_title(f"spread {spread:.3g}, kurtosis {kurtosis:.3g} (normal: 3)")
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(density[density > 0].min() / 2, density.max() * 1e-5))
    axes.set_xlabel("error (training standard deviations); outermost: all beyond")
    axes.set_ylabel("density")
    axes.legend(fontsize=8, loc="upper right")
    axes.set_ylim(top=density.max() * 30)  # room for the legend
    dress(axes)


def _draw_autocorrelation(axes: Axes, parts: Sequence[FloatArray]) -> None:
    """The mean over features, and the range of them, within episodes."""
    lags = min(MAX_LAG, min(len(part) for part in parts) - 1)
    centred = [part - part.mean(axis=0) for part in parts]
    power = sum((part**2).sum(axis=0) for part in centred)
    products = [sum((p[lag:] * p[: len(p) - lag]).sum(axis=0) for p in centred) for lag in range(lags + 1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.asarray(products) / power  # (L, F)
    found = found[:, np.isfinite(found).all(axis=0)]  # none without error, or with one that ran away
    if not found.size:
        return
    numbers = np.arange(lags + 1)
    ends = np.nanmin(found, axis=1), np.nanmax(found, axis=1)
    axes.fill_between(numbers, *ends, color=SKY, alpha=0.35, linewidth=0, label="range over features")
    axes.plot(numbers, np.nanmean(found, axis=1), color=BLUE, label="mean over features")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_title("autocorrelation of one-step errors")
    axes.set_xlabel("lag (steps)")
    axes.legend(fontsize=8)
    count_on_x(axes)
    dress(axes)
