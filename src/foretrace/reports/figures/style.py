"""What all figures share: colors, size, type, margins, time axes, and text that appears as it was written."""

import unicodedata
from contextlib import ContextDecorator
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

FloatArray = npt.NDArray[np.float64]

# Okabe and Ito's colors can be told apart by color-blind people; each meaning also has its own line style.
BLUE = "#0072B2"
SKY = "#56B4E9"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
INK = "#222222"
MUTED = "#666666"
GRID = "#E3E3E3"
# Diverging from white, told apart by color-blind people, and without a gray: that is left for what is not finite.
DIVERGING = "RdBu_r"
NOT_FINITE = "#8A8A8A"

WIDTH_IN, DPI = 8.2, 110  # 902 px: the width at which MLflow shows an image, so that 9 pt stay 9 pt
FONT = "DejaVu Sans"  # comes with matplotlib, so a figure is the same on every machine
LONGEST_LINE = 95  # characters: what the width has room for at 10 pt
ELLIPSIS, UNKNOWN_GLYPH = "…", "\ufffd"
UNITS = {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}
STEPS = (1, 2, 5, 10)  # between ticks, times a power of ten
# They say whether the character before is text or an emoji, and have no look of their own.
SELECTORS = "\ufe0e\ufe0f"


def house_style() -> ContextDecorator:
    """Decorate a function that draws, so that no matplotlibrc and no notebook changes its look."""
    return matplotlib.rc_context(
        {
            "font.family": [FONT],
            "font.size": 9.0,
            "text.usetex": False,
            "text.color": INK,
            "axes.titlesize": 9.5,
            "axes.titlelocation": "left",
            "axes.labelsize": 9.0,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.facecolor": "white",
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "axes.axisbelow": True,
            "figure.facecolor": "white",
            "figure.titlesize": 10.0,
            "legend.fontsize": 9.0,
            "legend.frameon": False,
            "lines.solid_capstyle": "round",
        }
    )


def new_panels(
    rows: int, columns: int, *, height_in: float, grid: bool = True, labelsize: float = 8.5, **options: Any
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Return a figure of the house's width, and its axes (rows, columns); ``options`` are `Figure.subplots`'s.

    It is outside pyplot's global list, so that it is freed after use.
    """
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in panels.flat:
        dress(axes, grid=grid, labelsize=labelsize)
    return figure, panels


def dress(axes: Axes, *, grid: bool = True, labelsize: float = 8.5) -> None:
    """Give axes the house's ticks and grid; kept by the axes, as ticks are made only when drawn."""
    axes.tick_params(which="both", color=MUTED, labelcolor=INK, labelsize=labelsize, labelfontfamily=FONT)
    if grid:
        axes.grid(visible=True, color=GRID, linewidth=0.7)


def legend_above(figure: Figure, axes: Axes, *lines: str, columns: int = 5) -> None:
    """Explain the lines of some axes above them all, under a title of lines; empty ones are left out."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.4,
        title="\n".join(plain_text(line, longest=LONGEST_LINE) for line in lines if line),
        title_fontsize=10,
        alignment="left",
    )


def entitle(figure: Figure, *lines: str) -> None:
    """Write lines above a figure's axes; empty ones are left out."""
    shown = "\n".join(plain_text(line, longest=LONGEST_LINE) for line in lines if line)
    figure.suptitle(shown, x=0.1 / WIDTH_IN, ha="left")


def count_on_x(axes: Axes) -> None:
    """Put whole numbers on the x axis, with thousands apart."""
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=STEPS, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")


@dataclass(frozen=True, eq=False)
class Clock:
    """Where rows stand on a time axis: at steps, seconds or dates.

    Args:
        x: Positions, for dates in matplotlib's days. Shape (T,).
        label: Of the axis; empty for dates, which name themselves.

    >>> Clock.of(3, dt_s=0.5).x.tolist(), Clock.of(3, dt_s=None, first=7).x.tolist()
    ([0.0, 0.5, 1.0], [7.0, 8.0, 9.0])
    """

    x: FloatArray
    label: str

    @classmethod
    def of(
        cls, count: int, *, dt_s: float | None, dates: npt.ArrayLike | None = None, first: int = 0
    ) -> "Clock":
        """Return the positions of rows: by dates (T,), where known; else by number, or by time ``dt_s`` > 0 apart."""
        if dates is not None:
            return cls(np.asarray(date2num(np.asarray(dates))), "")  # type: ignore[no-untyped-call]
        x = (first + np.arange(count, dtype=np.float64)) * (dt_s or 1.0)
        if dt_s is None:
            return cls(x, "time (steps)")
        unit = next(unit for unit, seconds in UNITS.items() if x[-1] >= 3 * seconds or unit == "s")
        return cls(x / UNITS[unit], f"time ({unit})")

    @property
    def edges(self) -> tuple[float, float]:
        """Outer edges of the first and the last row."""
        half = (self.x[-1] - self.x[0]) / max(1, len(self.x) - 1) / 2 or 0.5
        return float(self.x[0] - half), float(self.x[-1] + half)

    def dress(self, axes: Axes, *, most: int, label: bool = True) -> None:
        """Put at most so many ticks, and where asked a label, on an x axis."""
        if self.label:
            axes.xaxis.set_major_locator(MaxNLocator(most, steps=STEPS, integer="steps" in self.label))
            axes.set_xlabel(self.label if label else "")
            return
        locator = AutoDateLocator(minticks=2, maxticks=most)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def draw_over_time(
    axes: Axes, values: FloatArray, clock: Clock, *, colors: str, low: float, high: float, first: float
) -> AxesImage:
    """Draw values (T, rows) as an image, time to the right, the first row on top, at that place on the y axis."""
    return axes.imshow(
        np.ma.masked_invalid(np.clip(values, low, high)).T,
        cmap=matplotlib.colormaps[colors].with_extremes(bad=NOT_FINITE),
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",  # smoothing would mix neighboring rows, and red with blue to a purple
        extent=(*clock.edges, first + values.shape[1] - 0.5, first - 0.5),
    )


def plain_text(text: str, *, longest: int = 28) -> str:
    r"""Return text that matplotlib shows as it was written: on one line, never as mathematics, never too long.

    What is too long loses its middle, as names that start alike often differ at their ends. A character that
    the font lacks (an emoji) becomes U+FFFD, which says that something stood there.

    >>> plain_text("cost in $\n per $", longest=40)
    'cost in \\$ per \\$'
    >>> plain_text("angular velocity of the front knee", longest=20)
    'angular v…front knee'
    """
    normal = unicodedata.normalize("NFC", " ".join(text.split()))
    visible = (c for c in normal if unicodedata.category(c) not in {"Cc", "Cf"} and c not in SELECTORS)
    shown = "".join(c if ord(c) in _drawable() else UNKNOWN_GLYPH for c in visible)
    if len(shown) > longest:
        tail = longest // 2
        shown = shown[: longest - tail - 1].rstrip() + ELLIPSIS + shown[-tail:].lstrip()
    return shown.replace("$", r"\$")


@cache
def _drawable() -> frozenset[int]:
    """Code points for which the font has a glyph."""
    return frozenset(get_font(findfont(FONT)).get_charmap())
