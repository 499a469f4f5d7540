"""How good the forecasts are: by horizon, by feature, by position in the window, and what their errors look like.

Shapes: H steps ahead, F features, T positions in a window, S steps of an episode, L levels of intervals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretrace.reports.figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    SKY,
    VERMILLION,
    FloatArray,
    count_on_x,
    dress,
    entitle,
    house_style,
    legend_above,
    new_panels,
    plain_text,
)

MODEL = "model"
# Color, line style and width of each forecast: told apart without color, too. The model's is the one that forecasts
# have in all pictures, and what repeats a recorded value has the color of recordings.
LOOKS: dict[str, dict[str, Any]] = {
    MODEL: {"color": VERMILLION, "ls": "-", "lw": 2.2},
    f"{MODEL}, not calibrated": {"color": VERMILLION, "ls": ":", "lw": 1.4},
    "persistence": {"color": BLUE, "ls": "--", "lw": 1.4},
    "velocity": {"color": PURPLE, "ls": ":", "lw": 1.6},
    "mean": {"color": MUTED, "ls": "-.", "lw": 1.4},
    "seasonal": {"color": INK, "ls": (0, (1, 1)), "lw": 1.4},
    "ridge": {"color": GREEN, "ls": (0, (5, 1, 1, 1, 1, 1)), "lw": 1.6},
}
MAX_LAG = 50
MAX_ROWS, MAX_NAMED = 24, 60


@house_style()
def error_by_horizon(
    errors: Mapping[str, npt.ArrayLike],
    *,
    band: tuple[FloatArray, FloatArray] | None = None,
    dt_s: float | None = None,
) -> Figure:
    """Draw the open-loop error of the model and of the baselines against the steps ahead, both on log axes.

    A baseline that runs away leaves the picture at ten times the largest error of the others. The errors (H,) are
    mean squares in scaled units by the name of the forecast; the band is that of the model's 95 % interval, (H,) each.
    """
    curves = {name: np.asarray(curve, np.float64) for name, curve in errors.items()}
    figure, [[axes]] = new_panels(1, 1, height_in=4.0)
    axes.set(xscale="log", yscale="log", ylabel="MSE (training variances)")
    axes.set_xlabel("steps ahead" if dt_s is None else f"steps ahead (of {dt_s:g} s each)")
    steps = np.arange(1, len(curves[MODEL]) + 1)
    if band is not None:
        axes.fill_between(steps, *band, color=VERMILLION, alpha=0.2, lw=0, label="model, 95% interval")
    for name, curve in curves.items():
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, curve, marker=marker, **LOOKS[name], label=name)
    calm = np.concatenate([curve for name, curve in curves.items() if name != "velocity"])
    calm = calm[np.isfinite(calm) & (calm > 0)]
    if calm.size:
        axes.set_ylim(calm.min() / 2, calm.max() * (10 if "velocity" in curves else 2))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlim(0.95, max(1.05 * len(steps), 2))
    legend_above(figure, axes)
    return figure


@house_style()
def skill_map(skill: npt.ArrayLike, *, feature_names: Sequence[str], horizons: Sequence[int]) -> Figure:
    """Draw the skill against persistence for each feature and horizon; red is worse than the last value.

    Of more than 24 features, the 24 with the lowest skill (F, H) at the last horizon are shown, the lowest first.
    """
    values = np.asarray(skill, np.float64)
    shown = list(range(len(values)))
    if len(values) > MAX_ROWS:
        worst = np.argsort(np.nan_to_num(values[:, -1], nan=-np.inf), kind="stable")
        shown = worst[:MAX_ROWS].tolist()
    figure, [[axes]] = new_panels(1, 1, height_in=0.9 + 0.2 * max(3, len(shown)), grid=False)
    axes.set_xlabel("steps ahead")
    image = axes.imshow(values[shown], cmap=matplotlib.colormaps["RdBu"], vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(horizons)), [f"{steps:,}" for steps in horizons])
    axes.set_yticks(range(len(shown)), [plain_text(feature_names[f]) for f in shown])
    for (row, column), value in np.ndenumerate(values[shown]):
        color = "white" if abs(value) > 0.6 else INK
        text = f"{value:.2f}" if value > -10 else "< −10"
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=color)
    dress(figure.colorbar(image, extend="min", aspect=30).ax, grid=False, labelsize=8)
    what = "Skill against repeating the last value: 1 is perfect, below 0 is worse"
    some = f"; the lowest {len(shown)} of {len(values)} features" if len(shown) < len(values) else ""
    entitle(figure, what + some)
    return figure


@house_style()
def error_by_position(errors: Mapping[str, npt.ArrayLike], *, carried: float | None) -> Figure:
    """Draw what the first steps of a window cost, from a state of zero, beside the error with the state carried.

    The errors (T,) are mean squares by position, by the name of the forecast.
    """
    figure, [[axes]] = new_panels(1, 1, height_in=3.15)
    axes.set(xlabel="position in the window (steps read)", ylabel="MSE (training variances)")
    for name, curve in errors.items():
        values = np.asarray(curve, np.float64)
        marker = "o" if len(values) == 1 else ""
        steps = 1 + np.arange(len(values))
        axes.plot(steps, values, marker=marker, **LOOKS[name], label=name)
    if carried is not None:
        axes.axhline(carried, color=VERMILLION, ls=":", lw=1.4, label="model, state carried")
    axes.set_ylim(bottom=0)
    count_on_x(axes)
    legend_above(figure, axes)
    return figure


@house_style()
def residuals(errors: Sequence[npt.ArrayLike]) -> Figure:
    """Draw how scaled one-step errors (S, F) of episodes are distributed, and how long one tells of the next."""
    parts = [np.asarray(part, np.float64) for part in errors]
    figure, panels = new_panels(1, 2, height_in=3.4)
    _draw_histogram(panels[0, 0], np.concatenate([part.ravel() for part in parts]))
    _draw_autocorrelation(panels[0, 1], parts)
    return figure


@house_style()
def distributions(parts: Mapping[str, npt.ArrayLike], *, feature_names: Sequence[str]) -> Figure:
    """Draw where the values of each feature lie in each part: median, middle half, and 1st to 99th percentile.

    Of more than 60 features, the first 60. Each part has its quantiles 1, 25, 50, 75 and 99 % (5, F), scaled.
    """
    count = min(len(feature_names), MAX_NAMED)
    figure, [[axes]] = new_panels(1, 1, height_in=0.85 + 0.2 * max(4, count))
    axes.set_xlabel("training standard deviations from the training mean")
    for number, ((part, quantiles), color) in enumerate(
        zip(parts.items(), (BLUE, VERMILLION, GREEN), strict=False)
    ):
        table = np.asarray(quantiles, np.float64)[:, :count]
        rows = np.arange(count) + 0.25 * (number - (len(parts) - 1) / 2)
        axes.hlines(rows, table[0], table[4], color=color, linewidth=0.9, alpha=0.8)
        axes.hlines(rows, table[1], table[3], color=color, linewidth=3.2, label=plain_text(part))
        axes.plot(table[2], rows, "o", color="white", markeredgecolor=color, markersize=3.2)
    axes.set_yticks(range(count), [plain_text(name) for name in feature_names[:count]])
    axes.set_ylim(count - 0.4, -0.6)
    legend_above(figure, axes)
    return figure


@house_style()
def coverage(
    levels: Sequence[float],
    observed: npt.ArrayLike,
    *,
    band: tuple[FloatArray, FloatArray] | None = None,
) -> Figure:
    """Draw how much of what came lay within the forecasts' intervals, beside how much should have.

    Left, the coverage over all steps ahead against the nominal one; right, by steps ahead, with a dotted line where
    it should be. Below the line, intervals are too narrow. The levels are nominal coverages within 0 to 1, observed
    are the shares of values within (L, H), and the band is that of their 95 % confidence interval, (L, H) each.
    """
    shares = np.asarray(observed, np.float64)
    figure, panels = new_panels(1, 2, height_in=3.6)
    left, right = panels[0]
    left.plot([0, 1], [0, 1], color=MUTED, ls=":", lw=1.2, label="as it should be")
    left.plot(levels, shares.mean(axis=1), "o-", color=BLUE, lw=1.6, ms=5, label="over all steps ahead")
    left.set(xlabel="nominal coverage", ylabel="observed coverage", xlim=(0, 1), ylim=(0, 1.02))
    steps = 1 + np.arange(shares.shape[1])
    for number, (level, share) in enumerate(zip(levels, shares, strict=True)):
        color = (BLUE, VERMILLION, GREEN, PURPLE, INK)[number % 5]
        if band is not None:
            right.fill_between(steps, band[0][number], band[1][number], color=color, alpha=0.18, lw=0)
        right.plot(
            steps, share, color=color, marker="o" if len(steps) == 1 else "", lw=1.6, label=f"{level:.0%}"
        )
        right.axhline(level, color=color, ls=":", lw=1.2)
    right.set(xlabel="steps ahead", ylim=(0, 1.02))
    count_on_x(right)
    for axes in (left, right):
        axes.yaxis.set_major_formatter("{x:.1f}")
        axes.legend(loc="lower right", fontsize=8, ncols=3 if axes is right else 1)
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
    top = density.max() * 30  # room for the legend
    axes.set_ylim(max(density[density > 0].min() / 2, density.max() * 1e-5), top)
    axes.set_xlabel("error (training std; the outermost bars: all beyond)")
    axes.set_ylabel("density")
    axes.legend(fontsize=8, loc="upper right")


def _draw_autocorrelation(axes: Axes, parts: Sequence[FloatArray]) -> None:
    """The mean over features, and the range of them, within episodes."""
    lags = min(MAX_LAG, min(len(part) for part in parts) - 1)
    centered = [part - part.mean(axis=0) for part in parts]
    power = sum((part**2).sum(axis=0) for part in centered)
    products = [sum((p[lag:] * p[: len(p) - lag]).sum(axis=0) for p in centered) for lag in range(lags + 1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.asarray(products) / power  # (lags + 1, F)
    found = found[:, np.isfinite(found).all(axis=0)]  # none without error, or with one that ran away
    if not found.size:
        return
    numbers = np.arange(lags + 1)
    if found.shape[1] > 1:
        ends = found.min(axis=1), found.max(axis=1)
        axes.fill_between(numbers, *ends, color=SKY, alpha=0.35, linewidth=0, label="range over features")
    axes.plot(numbers, found.mean(axis=1), color=BLUE, label="mean over features")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_title("autocorrelation of one-step errors")
    axes.set_xlabel("lag (steps)")
    axes.legend(fontsize=8)
    count_on_x(axes)
