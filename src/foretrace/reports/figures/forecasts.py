"""What was forecast beside what happened: as images, as lines, and as a fan of intervals.

All pictures take one name per feature, and where they have panels of features one unit, empty where unknown; the time
from one row to the next, ``dt_s`` in seconds > 0, where None draws steps; the ``dates`` of all rows that are drawn,
where known; and a title that says what is shown.

Shapes: T rows, H steps ahead, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foretrace.reports.figures.style import (
    BLUE,
    DIVERGING,
    MUTED,
    STEPS,
    VERMILLION,
    Clock,
    FloatArray,
    draw_over_time,
    dress,
    entitle,
    house_style,
    legend_above,
    new_panels,
    plain_text,
)

MAX_NAMED = 72
MAX_PANELS = 12
# By the number of columns: height of a panel, characters of a name above it, and where a unit stands beside it, in
# widths of the panel; Matplotlib's own alignment would take as long as all else.
PANELS = {1: (1.65, 70, -0.08), 2: (1.35, 34, -0.19), 3: (1.2, 17, -0.31)}
IMAGES = ("Prediction", "Ground truth", "Error (prediction − truth)")


@house_style()
def prediction_and_truth(
    prediction: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    feature_names: Sequence[str],
    dt_s: float | None,
    dates: npt.ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw the prediction, the ground truth and the error between them as images on one color scale.

    The scale reaches to the 99th percentile of the truth's magnitudes, on both sides of zero: what lies
    beyond keeps the last color, and the color bar ends in arrows. A prediction that runs away thus cannot
    bleach the truth. Of more than about 200 steps, not all are seen: there are fewer pixels.

    Prediction and truth (T, F) are in units of the training standard deviation.
    """
    predicted, true = _finite(prediction), _finite(truth)
    error, num_features = predicted - true, true.shape[1]
    clock = Clock.of(len(true), dt_s=dt_s, dates=dates)
    size, row_in = (8.5, 0.17) if num_features <= 24 else (7.0, 0.1)
    height_in = 1.9 + max(0.9, row_in * min(num_features, MAX_NAMED))
    options: dict[str, Any] = {"sharex": True, "sharey": True}
    figure, [panels] = new_panels(1, 3, height_in=height_in, grid=False, labelsize=size, **options)
    finite = np.abs(true[np.isfinite(true)])
    limit = (float(np.percentile(finite, 99)) if finite.size else 0.0) or 1.0
    for axes, values, name in zip(panels, (predicted, true, error), IMAGES, strict=True):
        image = draw_over_time(axes, values, clock, colors=DIVERGING, low=-limit, high=limit, first=0)
        axes.set_title(name)
        clock.dress(axes, most=4)
        axes.tick_params(axis="x", labelsize=8.5)
        axes.tick_params(axis="y", length=0)
    shown = range(0, num_features, -(-num_features // MAX_NAMED))
    panels[0].set_yticks(list(shown), [plain_text(feature_names[f]) for f in shown])
    exceeded = bool((np.abs([predicted, true, error]) > limit).any())
    look: dict[str, Any] = {"extend": "both" if exceeded else "neither", "ticks": MaxNLocator(5, steps=STEPS)}
    place: dict[str, Any] = {"location": "bottom", "shrink": 0.5, "aspect": 50, "pad": 0.02}
    bar = figure.colorbar(
        image, ax=panels, label="in units of the training standard deviation", **look, **place
    )
    dress(bar.ax, grid=False, labelsize=8)
    what = f"All on one color scale; RMS error {_rms(error):.3g} training standard deviations"
    entitle(figure, title, what, _unseen(error, "gray"))
    return figure


@house_style()
def feature_lines(
    prediction: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    feature_names: Sequence[str],
    units: Sequence[str],
    dt_s: float | None,
    dates: npt.ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw a panel per feature, with the truth as a broad line and the prediction dashed over it.

    Of more than 12 features, those with the largest error are shown, the largest first; as their units
    differ, each error is taken relative to how much the true feature varies. The y axis follows the truth: a
    prediction that runs away leaves the panel, and its RMS error says how far. About 200 steps of what varies
    from step to step can be told apart.

    Prediction and truth (T, F) are in the features' own units.
    """
    predicted, true = _finite(prediction), _finite(truth)
    error = predicted - true
    shown = _largest_errors(error, true)
    clock = Clock.of(len(true), dt_s=dt_s, dates=dates)
    figure, panels = _feature_panels([(feature_names[f], units[f]) for f in shown], clock)
    dense = len(true) / panels.shape[1] > 300
    dot = "o" if len(true) == 1 else ""
    for axes, f in zip(panels.ravel(), shown, strict=False):
        axes.plot(
            clock.x, true[:, f], marker=dot, color=BLUE, alpha=0.55, lw=1.4 if dense else 2.4, label="truth"
        )
        dashes = {"color": VERMILLION, "ls": (0, (4, 1.5)), "lw": 0.6 if dense else 1.1}
        axes.plot(clock.x, predicted[:, f], marker=dot, ms=4, label="prediction", **dashes)
        axes.set_title(f"RMS {_rms(error[:, f]):.2g}", loc="right", color=MUTED, fontsize=8)
        _view(axes, true[:, f], predicted[:, f], reach=0.5)
        axes.set_xlim(*clock.edges)
    what = "Prediction over truth, and the RMS error of each feature"
    if len(shown) < len(feature_names):
        what = f"{len(shown)} of {len(feature_names)} features: those with the largest error relative to their spread"
    legend_above(figure, panels[0, 0], title, what, _unseen(error, "not drawn"))
    return figure


@house_style()
def fan_chart(
    recorded: npt.ArrayLike,
    forecast: npt.ArrayLike,
    *,
    bands: Mapping[float, tuple[npt.ArrayLike, npt.ArrayLike]],
    truth: npt.ArrayLike | None = None,
    feature_names: Sequence[str],
    units: Sequence[str],
    dt_s: float | None,
    first_step: int = 0,
    dates: npt.ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw a panel per feature: what was recorded last, and after a vertical line what is forecast.

    Of more than 12 features, the first 12. The y axis follows what was recorded and what came: a forecast or an
    interval that runs away leaves it.

    Recorded are the last rows (T, F) of a recording, forecast and truth those after them (H, F); bands are lower and
    upper limits (H, F) of intervals, by their level in percent. ``first_step`` is the number of the first recorded row.
    """
    past, ahead = (_finite(values) for values in (recorded, forecast))
    came = None if truth is None else _finite(truth)
    shown = range(min(len(feature_names), MAX_PANELS))
    clock, now = Clock.of(len(past) + len(ahead), dt_s=dt_s, dates=dates, first=first_step), len(past) - 1
    figure, panels = _feature_panels([(feature_names[f], units[f]) for f in shown], clock)
    limits = {level: [_finite(end) for end in bands[level]] for level in sorted(bands, reverse=True)}
    for axes, f in zip(panels.ravel(), shown, strict=False):
        for number, (level, ends) in enumerate(limits.items()):
            low, high = (np.concatenate([past[-1:, f], end[:, f]]) for end in ends)
            opacity, label = 0.14 + 0.12 * number, f"{level:g}% interval"
            axes.fill_between(clock.x[now:], low, high, color=VERMILLION, alpha=opacity, lw=0, label=label)
        axes.plot(clock.x[: now + 1], past[:, f], color=BLUE, lw=1.4, label="recorded")
        if came is not None:
            axes.plot(clock.x[now + 1 :], came[:, f], color=BLUE, lw=1.0, alpha=0.6, label="what came")
        joined = np.concatenate([past[-1:, f], ahead[:, f]])
        axes.plot(clock.x[now:], joined, color=VERMILLION, ls=(0, (4, 1.5)), lw=1.4, label="forecast")
        axes.axvline(clock.x[now], color=MUTED, lw=0.8)
        axes.set_xlim(clock.x[0], clock.x[-1])
        seen = past[:, f] if came is None else np.concatenate([past[:, f], came[:, f]])
        drawn = np.concatenate([joined, *(end[:, f] for ends in limits.values() for end in ends)])
        _view(axes, seen, drawn, reach=1.0)
    what = f"The last {len(past)} recorded rows and {len(ahead)} forecast ones"
    what += f"; the first {len(shown)} of {len(feature_names)} features" * (len(shown) < len(feature_names))
    legend_above(figure, panels[0, 0], title, what, columns=6)
    return figure


def _finite(values: npt.ArrayLike) -> FloatArray:
    """NaN for what is not finite in single precision."""
    array = np.array(values, dtype=np.float64)
    array[~(np.abs(array) <= np.finfo(np.float32).max)] = np.nan
    return array


def _rms(error: FloatArray) -> float:
    """Root of the mean square of what is finite; NaN if nothing is."""
    finite = error[np.isfinite(error)]
    return float(np.linalg.norm(finite) / np.sqrt(finite.size)) if finite.size else float("nan")


def _unseen(error: FloatArray, how: str) -> str:
    lost = int(np.count_nonzero(~np.isfinite(error)))
    return f"{lost:,} of {error.size:,} values not finite ({how})" if lost else ""


def _largest_errors(error: FloatArray, truth: FloatArray) -> list[int]:
    """Features to show: all in order, or those with the largest error relative to the truth's spread."""
    if error.shape[1] <= MAX_PANELS:
        return list(range(error.shape[1]))
    spread = np.ma.masked_invalid(truth).std(axis=0).filled(0)
    rms = np.array([_rms(column) for column in error.T])
    relative = rms / np.maximum(spread, np.finfo(np.float32).tiny)
    worst = np.argsort(-np.nan_to_num(relative, nan=np.inf), kind="stable")
    return [int(f) for f in worst[:MAX_PANELS]]


def _feature_panels(named: Sequence[tuple[str, str]], clock: Clock) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Return axes for features of these names and units; those that are not needed are gone."""
    columns = 1 if len(named) <= 3 else 2 if len(named) <= 8 else 3
    rows, (panel_in, longest, beside) = -(-len(named) // columns), PANELS[columns]
    figure, panels = new_panels(rows, columns, height_in=1.2 + rows * panel_in, labelsize=8, sharex=True)
    for axes in panels.ravel()[len(named) :]:
        axes.remove()
    for place, ((name, unit), axes) in enumerate(zip(named, panels.ravel(), strict=False)):
        is_lowest = place + columns >= len(named)
        axes.set_title(plain_text(name, longest=longest), fontsize=8.5)
        axes.set_ylabel(plain_text(unit, longest=12))
        axes.yaxis.set_label_coords(beside, 0.5)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        axes.yaxis.set_major_formatter("{x:.7g}")  # no offset in a title's place
        clock.dress(axes, most=6 if columns < 3 else 4, label=is_lowest)
        axes.tick_params(labelbottom=is_lowest)
    return figure, panels


def _view(axes: Axes, seen: FloatArray, forecast: FloatArray, *, reach: float) -> None:
    """Show all lines, but no further from what was seen than ``reach`` times its range."""
    known, ahead = seen[np.isfinite(seen)], forecast[np.isfinite(forecast)]
    if not known.size:
        return
    spread = float(np.ptp(known)) or float(np.abs(known).max()) or 1.0
    both = np.concatenate([known, ahead])
    low = max(float(both.min()), float(known.min()) - reach * spread) - spread / 20
    high = min(float(both.max()), float(known.max()) + reach * spread) + spread / 20
    axes.set_ylim(low, high)
