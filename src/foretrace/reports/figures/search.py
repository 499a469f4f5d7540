"""How a search went: the result of each trial, and the best so far.

Shapes: N trials.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from foretrace.reports.figures.style import (
    BLUE,
    INK,
    VERMILLION,
    count_on_x,
    dress,
    house_style,
    new_figure,
    plain_text,
)

LOG_FROM_RATIO = 20.0


@house_style()
def search_course(
    numbers: Sequence[int], results: npt.ArrayLike, pruned: Sequence[bool], *, name: str = "val/mse"
) -> Figure:
    """Draws the result of each trial in the order of the trials, and the lowest so far.

    Args:
        numbers: Of the trials, rising. N of them.
        results: NaN or infinite for what failed: a cross at the upper edge. Shape (N,).
        pruned: Whether a trial was stopped early; its result is then that of its best epoch. N of them.
        name: What was measured; labels the y axis.

    Raises:
        ValueError: If there is no trial, or not one result for each.

    >>> search_course([0, 1], [2, 1], [False, True]).axes[0].get_xlabel()
    'trial'
    """
    x, y, stopped = np.asarray(numbers), np.asarray(results, dtype=np.float64), np.asarray(pruned, dtype=bool)
    if not len(x) or not x.shape == y.shape == stopped.shape:
        raise ValueError(
            f"expected one result per trial, at least 1, received {y.shape}, {stopped.shape} for {x.shape}"
        )
    figure = new_figure(3.4)
    axes = figure.add_subplot(xlabel="trial", ylabel=plain_text(name, longest=48))
    known = np.isfinite(y)
    ended = known & ~stopped
    axes.plot(x[ended], y[ended], "o", color=BLUE, ms=5, mew=0, label="trained to its end")
    if (known & stopped).any():
        early = known & stopped
        axes.plot(x[early], y[early], "v", color=VERMILLION, mfc="none", ms=5, label="stopped early")
    if (~known).any():
        edge = axes.get_xaxis_transform()
        crosses = np.ones((~known).sum())
        axes.plot(x[~known], crosses, "x", color=INK, transform=edge, clip_on=False, label="failed")
    if ended.any():
        lowest = np.minimum.accumulate(np.where(ended, y, np.inf))
        first = int(np.argmax(ended))
        axes.step(x[first:], lowest[first:], where="post", color=INK, lw=1.2, label="lowest so far")
    if known.any() and y[known].min() > 0 and y[known].max() >= LOG_FROM_RATIO * y[known].min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    margin = 0.5 + 0.02 * (x[-1] - x[0])
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    count_on_x(axes)
    dress(axes)
    figure.legend(loc="outside upper left", ncols=4)
    return figure
