"""The end of a recording, and the forecast after it.

Shapes: T rows, H steps ahead, F features.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from foretrace.reports.figures.forecasts import MAX_PANELS, PANEL_HEIGHT_IN
from foretrace.reports.figures.style import (
    BLUE,
    MUTED,
    VERMILLION,
    dress,
    house_style,
    new_figure,
    plain_text,
    round_ticks,
)


@house_style()
def outlook(
    recorded: npt.ArrayLike,
    forecast: npt.ArrayLike,
    *,
    feature_names: Sequence[str],
    units: Sequence[str],
    first_step: int,
    dt_s: float | None,
    title: str,
) -> Figure:
    """Draws a panel per feature: what was recorded last, and after a vertical line what is forecast.

    Of more than 24 features, the first 24. The y axis follows the recording: a forecast that runs away leaves it.

    Args:
        recorded: The last rows of a recording. Shape (T, F).
        forecast: The rows after them. Shape (H, F).
        feature_names: One name per feature.
        units: One unit per feature; empty where unknown.
        first_step: The step of the first recorded row.
        dt_s: Time step in seconds; None draws steps.
        title: What is shown.

    >>> wave = np.sin(np.arange(30.0))[:, None]
    >>> figure = outlook(wave[:20], wave[20:], feature_names=["x"], units=["m"], first_step=5, dt_s=0.1, title="")
    >>> len(figure.axes), figure.axes[0].get_xlabel()
    (1, 'time (s)')
    """
    past, ahead = np.asarray(recorded, np.float64), np.asarray(forecast, np.float64)
    ahead = np.where(np.isfinite(ahead), ahead, np.nan)
    shown = range(min(len(feature_names), MAX_PANELS))
    columns = 1 if len(shown) <= 3 else 2 if len(shown) <= 8 else 3
    rows = -(-len(shown) // columns)
    figure = new_figure(1.0 + rows * PANEL_HEIGHT_IN[columns])
    times = (first_step + np.arange(len(past) + len(ahead))) * (dt_s or 1.0)
    now = len(past) - 1
    for place, f in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.plot(times[: now + 1], past[:, f], color=BLUE, lw=1.4, label="recorded")
        joined = np.concatenate([past[-1:, f], ahead[:, f]])
        axes.plot(times[now:], joined, color=VERMILLION, ls=(0, (4, 1.5)), lw=1.4, label="forecast")
        axes.axvline(times[now], color=MUTED, lw=0.8)
        axes.set_xlim(times[0], times[-1])
        low, high = _view(past[:, f], joined)
        if low < high:
            axes.set_ylim(low, high)
        axes.set_title(plain_text(feature_names[f], longest=66 // columns), fontsize=8.5)
        axes.set_ylabel(plain_text(units[f], longest=12))
        axes.tick_params(labelbottom=place + columns >= len(shown))
        label = "time (steps)" if dt_s is None else "time (s)"
        axes.set_xlabel(label if place // columns == rows - 1 else "")
        axes.yaxis.set_major_locator(round_ticks(5))
        axes.xaxis.set_major_locator(round_ticks(6))
        dress(axes, labelsize=8)
    figure.align_ylabels()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    what = f"The last {len(past)} recorded rows and {len(ahead)} forecast ones"
    what += f"; the first {len(shown)} of {len(feature_names)} features" * (len(shown) < len(feature_names))
    figure.suptitle(f"{plain_text(title, longest=88)}\n{what}", x=0.01, horizontalalignment="left")
    return figure


def _view(past: npt.NDArray[np.float64], ahead: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Lower and upper y limit: both lines, but no further from the recording than its range."""
    reach = float(np.ptp(past)) or float(np.abs(past).max()) or 1.0
    low = max(float(np.nanmin(ahead)), past.min() - reach)
    high = min(float(np.nanmax(ahead)), past.max() + reach)
    low, high = min(low, past.min()), max(high, past.max())
    return float(low - reach / 20), float(high + reach / 20)
