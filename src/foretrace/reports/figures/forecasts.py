"""What was forecast beside what happened: as images, and as lines.

Shapes: T time, F features.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from foretrace.reports.figures.style import (
    BLUE,
    DIVERGING,
    MUTED,
    NOT_FINITE,
    VERMILLION,
    dress,
    house_style,
    new_figure,
    plain_text,
    round_ticks,
)

FloatArray = npt.NDArray[np.float64]

MAX_STACKED = 24  # with more features the three images stand side by side, each with height for its names
MAX_NAMED = 72
MAX_PANELS = 24
PANEL_HEIGHT_IN = {1: 1.9, 2: 1.5, 3: 1.25}  # by the number of columns
PICTURES = ("Prediction", "Ground truth", "Error (prediction − truth)")


@house_style()
def prediction_and_truth(
    prediction: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    feature_names: Sequence[str],
    dt_s: float | None,
    title: str = "",
) -> Figure:
    """Draws the prediction, the ground truth and the error between them as images on one colour scale.

    The scale reaches to the 99th percentile of the truth's magnitudes, on both sides of zero: what lies
    beyond keeps the last colour, and the colour bar ends in arrows. A prediction that runs away thus cannot
    bleach the truth. Of more than about 700 steps (200 if there are more than 24 features), not all are seen:
    there are fewer pixels.

    Args:
        prediction: Predicted values, in units of the training standard deviation. Shape (T, F).
        truth: Measured values, in the same units. Shape (T, F).
        feature_names: One name per feature.
        dt_s: Time from one row to the next in seconds, > 0; None draws steps.
        title: What is shown, e.g. the episode and how it was forecast.

    Raises:
        ValueError: If the shapes or names do not fit together, or there is nothing to draw.

    >>> wave = np.sin(np.arange(20.0))[:, None]
    >>> figure = prediction_and_truth(wave, wave, feature_names=["height"], dt_s=0.05)
    >>> [axes.get_title(loc="left") for axes in figure.axes[:3]]
    ['Prediction', 'Ground truth', 'Error (prediction − truth)']
    """
    predicted, true, error = _arrays(prediction, truth, names=feature_names, dt_s=dt_s)
    num_features = true.shape[1]
    stacked = num_features <= MAX_STACKED
    rows, columns = (3, 1) if stacked else (1, 3)
    figure = new_figure(_image_height_in(num_features, stacked=stacked))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True).ravel()
    limit = _colour_limit(true)
    for axes, values, name in zip(panels, (predicted, true, error), PICTURES, strict=True):
        image = _draw_image(axes, values, limit=limit, dt_s=dt_s)
        axes.set_title(name)
        axes.set_xlabel(_time_label(dt_s) if axes is panels[-1] or not stacked else "")
    _name_rows(panels[0], feature_names)
    exceeded = bool((np.abs([predicted, true, error]) > limit).any())
    _add_colour_bar(figure, image, panels, exceeded=exceeded)
    what = f"All on one colour scale; RMS error {_rms(error):.3g} training standard deviations"
    _entitle(figure, title, what, error, unseen="grey")
    return figure


@house_style()
def feature_lines(
    prediction: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    feature_names: Sequence[str],
    units: Sequence[str],
    dt_s: float | None,
    title: str = "",
) -> Figure:
    """Draws a panel per feature, with the truth as a broad line and the prediction dashed over it.

    Of more than 24 features, those with the largest error are shown, the largest first; as their units
    differ, each error is taken relative to how much the true feature varies. The y axis follows the truth: a
    prediction that runs away leaves the panel, and its RMS error says how far. About 200 steps of what varies
    from step to step can be told apart.

    Args:
        prediction: Predicted values, in the features' own units. Shape (T, F).
        truth: Measured values, in the same units. Shape (T, F).
        feature_names: One name per feature.
        units: One unit per feature; empty where unknown.
        dt_s: Time from one row to the next in seconds, > 0; None draws steps.
        title: What is shown, e.g. the episode and how it was forecast.

    Raises:
        ValueError: If the shapes, names or units do not fit together, or there is nothing to draw.

    >>> wave = np.sin(np.arange(20.0))[:, None]
    >>> figure = feature_lines(wave, wave, feature_names=["height"], units=["m"], dt_s=0.05)
    >>> figure.axes[0].get_ylabel()
    'm'
    """
    predicted, true, error = _arrays(prediction, truth, names=feature_names, dt_s=dt_s)
    if len(units) != len(feature_names):
        raise ValueError(f"expected {len(feature_names)} units, received {len(units)}")
    shown = _largest_errors(error, true)
    columns = 1 if len(shown) <= 3 else 2 if len(shown) <= 8 else 3
    rows = -(-len(shown) // columns)
    figure = new_figure(1.0 + rows * PANEL_HEIGHT_IN[columns])
    for place, f in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        _draw_lines(axes, predicted[:, f], true[:, f], step=dt_s or 1.0, dense=len(true) * columns > 900)
        axes.set_title(plain_text(feature_names[f], longest=66 // columns), fontsize=8.5)
        axes.set_title(f"RMS {_rms(error[:, f]):.2g}", loc="right", color=MUTED, fontsize=8)
        axes.set_ylabel(plain_text(units[f], longest=12))
        axes.tick_params(labelbottom=place + columns >= len(shown))
        axes.set_xlabel(_time_label(dt_s) if place // columns == rows - 1 else "")
    figure.align_ylabels()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    some = f"{len(shown)} of {len(feature_names)} features: those with the largest error relative to their spread"
    what = (
        some
        if len(shown) < len(feature_names)
        else "Prediction over truth, and the RMS error of each feature"
    )
    _entitle(figure, title, what, error, unseen="not drawn")
    return figure


def _arrays(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, *, names: Sequence[str], dt_s: float | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Prediction, truth and error, each (T, F), with NaN for what is not finite in single precision."""
    predicted, true = (np.array(values, dtype=np.float64) for values in (prediction, truth))
    if predicted.shape != true.shape or true.ndim != 2 or not true.size:
        raise ValueError(
            f"expected prediction and truth of one shape (T, F), received {predicted.shape}, {true.shape}"
        )
    if len(names) != true.shape[1]:
        raise ValueError(f"expected {true.shape[1]} feature names, received {len(names)}")
    if dt_s is not None and not dt_s > 0:
        raise ValueError(f"expected dt_s > 0 or None, received {dt_s}")
    for values in (predicted, true):
        values[~(np.abs(values) <= np.finfo(np.float32).max)] = np.nan
    return predicted, true, predicted - true


def _rms(error: FloatArray) -> float:
    """Root of the mean square of what is finite; NaN if nothing is."""
    finite = error[np.isfinite(error)]
    return float(np.linalg.norm(finite) / np.sqrt(finite.size)) if finite.size else float("nan")


def _entitle(figure: Figure, title: str, what: str, error: FloatArray, *, unseen: str) -> None:
    """Puts the caller's title, what is drawn, and what could not be drawn, on a line each."""
    lost = int(np.count_nonzero(~np.isfinite(error)))
    missing = f"{lost:,} of {error.size:,} values not finite ({unseen})" if lost else ""
    lines = filter(None, [plain_text(title, longest=88), what, missing])
    figure.suptitle("\n".join(lines), x=0.01, horizontalalignment="left")


def _time_label(dt_s: float | None) -> str:
    return "time (steps)" if dt_s is None else "time (s)"


def _image_height_in(num_features: int, *, stacked: bool) -> float:
    """Height at which neighbouring feature names do not touch."""
    if stacked:
        return 1.2 + 3 * (0.25 + max(0.9, 0.15 * num_features))
    return 1.3 + 0.14 * min(num_features, MAX_NAMED)


def _colour_limit(truth: FloatArray) -> float:
    finite = np.abs(truth[np.isfinite(truth)])
    limit = float(np.percentile(finite, 99)) if finite.size else 0.0
    return limit if limit > 0 else 1.0


def _draw_image(axes: Axes, values: FloatArray, *, limit: float, dt_s: float | None) -> AxesImage:
    num_steps, num_features = values.shape
    step = dt_s or 1.0
    image = axes.imshow(
        np.ma.masked_invalid(np.clip(values, -limit, limit)).T,
        cmap=matplotlib.colormaps[DIVERGING].with_extremes(bad=NOT_FINITE),
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",  # smoothing would mix neighbouring features, and red with blue to a purple
        extent=(-step / 2, (num_steps - 0.5) * step, num_features - 0.5, -0.5),
    )
    axes.xaxis.set_major_locator(round_ticks(10 if num_features <= MAX_STACKED else 4, whole=dt_s is None))
    dress(axes, grid=False)
    axes.tick_params(axis="y", length=0)
    return image


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names every feature, or every n-th where more would touch."""
    places = range(0, len(names), -(-len(names) // MAX_NAMED))
    axes.set_yticks(list(places), [plain_text(names[f]) for f in places])


def _add_colour_bar(figure: Figure, image: AxesImage, panels: Sequence[Axes], *, exceeded: bool) -> None:
    arrows = "both" if exceeded else "neither"
    bar = figure.colorbar(image, ax=panels, extend=arrows, extendfrac=0.02, pad=0.015, aspect=40)
    bar.set_label("in units of the training standard deviation")
    dress(bar.ax, grid=False)


def _largest_errors(error: FloatArray, truth: FloatArray) -> list[int]:
    """Features to show: all in order, or those with the largest error relative to the truth's spread."""
    num_features = error.shape[1]
    if num_features <= MAX_PANELS:
        return list(range(num_features))
    rms = np.array([_rms(error[:, f]) for f in range(num_features)])
    spread = np.array([_rms(truth[:, f] - _middle(truth[:, f])) for f in range(num_features)])
    relative = rms / np.maximum(np.nan_to_num(spread), np.finfo(np.float32).tiny)
    worst = np.argsort(-np.nan_to_num(relative, nan=np.inf), kind="stable")
    return [int(f) for f in worst[:MAX_PANELS]]


def _middle(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else 0.0


def _draw_lines(axes: Axes, predicted: FloatArray, true: FloatArray, *, step: float, dense: bool) -> None:
    times = np.arange(len(true)) * step
    dot = "o" if len(times) == 1 else ""
    broad, fine = (1.4, 0.6) if dense else (2.4, 1.1)
    dashes = (0, (4, 1.5))
    axes.plot(times, true, marker=dot, color=BLUE, alpha=0.55, lw=broad, label="truth")
    axes.plot(times, predicted, marker=dot, color=VERMILLION, ls=dashes, lw=fine, ms=4, label="prediction")
    low, high = _view(predicted, true)
    if low < high:
        axes.set_ylim(low, high)
    axes.set_xlim(-step / 2, times[-1] + step / 2)
    axes.yaxis.set_major_locator(round_ticks(5))
    axes.xaxis.set_major_locator(round_ticks(6))
    dress(axes, labelsize=8)


def _view(predicted: FloatArray, true: FloatArray) -> tuple[float, float]:
    """Lower and upper y limit: both lines, but no further from the truth than half its range."""
    finite_true, both = true[np.isfinite(true)], np.concatenate([true, predicted])
    finite_both = both[np.isfinite(both)]
    if not finite_true.size or np.ptp(finite_true) == 0:
        return 0.0, 0.0
    reach = np.ptp(finite_true)
    low = max(finite_both.min(), finite_true.min() - reach / 2) - reach / 20
    high = min(finite_both.max(), finite_true.max() + reach / 2) + reach / 20
    return float(low), float(high)
