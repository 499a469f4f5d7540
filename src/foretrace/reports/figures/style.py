"""What all figures share: colors, size, type, margins, time axes, and text that appears as it was written."""

import unicodedata
from collections.abc import Sequence
from contextlib import ContextDecorator
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import Formatter, MaxNLocator

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
ELLIPSIS, UNKNOWN_GLYPH = "…", "\ufffd"
UNITS = {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}
NS_PER_DAY = 86_400e9  # matplotlib counts days since 1970
SELECTORS = (
    "\ufe0e\ufe0f"  # say whether the character before is text or an emoji, and have no look of their own
)


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
            "axes.titley": 1.0,  # else matplotlib measures all ticks to put it above them, a seventh of the time
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


def new_figure(height_in: float) -> Figure:
    """Return an empty figure of the house's width, outside pyplot's global list, so that it is freed after use."""
    return Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")


def new_panels(
    rows: int,
    columns: int,
    *,
    panel_in: float,
    left_in: float = 0.8,
    right_in: float = 0.15,
    top_in: float = 0.45,
    bottom_in: float = 0.5,
    apart_in: tuple[float, float] = (0.35, 0.7),
    **options: Any,
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Return a figure of the house's width and its axes, (rows, columns), with margins in inches.

    Fixed margins take no time, while matplotlib's layout engines measure every label several times, which is
    two thirds of a figure's cost.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        panel_in: Height of a panel.
        left_in: Left of the first panels, for labels.
        right_in: Right of the last panels.
        top_in: Above the first panels, for title or legend.
        bottom_in: Below the last panels.
        apart_in: Between rows and between columns.
        options: For `Figure.subplots`.
    """
    height = top_in + rows * panel_in + (rows - 1) * apart_in[0] + bottom_in
    width = (WIDTH_IN - left_in - right_in - (columns - 1) * apart_in[1]) / columns
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
    figure.subplots_adjust(
        left=left_in / WIDTH_IN,
        right=1 - right_in / WIDTH_IN,
        top=1 - top_in / height,
        bottom=bottom_in / height,
        hspace=apart_in[0] / panel_in,
        wspace=apart_in[1] / width,
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def legend_above(figure: Figure, axes: Axes, *, columns: int = 5, below_in: float = 0.05) -> None:
    """Explain the lines of some axes in the figure's upper margin, so far below its edge."""
    handles, labels = axes.get_legend_handles_labels()
    place = (0, 1 - below_in / figure.get_size_inches()[1])
    figure.legend(
        list(handles),
        list(labels),
        loc="upper left",
        bbox_to_anchor=place,
        ncols=columns,
        columnspacing=1.4,
        borderaxespad=0,
    )


def entitle(figure: Figure, *lines: str) -> None:
    """Write lines into the figure's upper left corner; empty ones are left out."""
    height = figure.get_size_inches()[1]
    shown = "\n".join(fitted(line, WIDTH_IN - 0.2, size=10) for line in lines if line)
    figure.suptitle(shown, x=0.1 / WIDTH_IN, y=1 - 0.07 / height, ha="left", va="top")


def dress(axes: Axes, *, grid: bool = True, labelsize: float = 8.5) -> None:
    """Give axes the house's ticks and grid; kept by the axes, as ticks are made only when drawn."""
    axes.tick_params(which="both", color=MUTED, labelcolor=INK, labelsize=labelsize, labelfontfamily=FONT)
    if grid:
        axes.grid(visible=True, color=GRID, linewidth=0.7)


def count_on_x(axes: Axes) -> None:
    """Put whole numbers on the x axis, with thousands apart."""
    axes.xaxis.set_major_locator(round_ticks(10, whole=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def round_ticks(most: int, *, whole: bool = False) -> MaxNLocator:
    """Return ticks at multiples of 1, 2 or 5 times a power of ten; ``whole`` for what is counted."""
    return MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1 if whole else 2)


class ShortNumbers(Formatter):
    """Tick labels with as few digits as tell them apart, and no offset in a title's place.

    >>> ShortNumbers().format_ticks([101325.2, 101325.4]), ShortNumbers().format_ticks([0, 2e6])
    (['101325.2', '101325.4'], ['0', '2e+06'])
    """

    def __call__(self, value: float, position: int | None = None) -> str:
        """Return one label."""
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks."""
        largest = max((abs(value) for value in values), default=0.0)
        labels: list[str] = []
        for digits in range(6 if 1e3 <= largest < 1e6 else 3, 12):
            labels = [f"{0.0 if abs(v) < 1e-9 * largest else v:.{digits}g}" for v in values]
            if len(set(labels)) == len(labels):
                break
        return [label.replace("-", "−", 1) if label.startswith("-") else label for label in labels]


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
        """Return the positions of ``count`` rows.

        Args:
            count: T.
            dt_s: Time step in seconds, > 0; None counts steps.
            dates: ``datetime64`` of each row, where known; else rows count from ``first``. Shape (T,).
            first: Number of the first row.
        """
        if dt_s is not None and not dt_s > 0:
            raise ValueError(f"expected dt_s > 0 or None, received {dt_s}")
        if dates is not None:
            return cls(np.asarray(dates, "datetime64[ns]").astype(np.int64) / NS_PER_DAY, "")
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
        """Put ticks, and where asked a label, on an x axis."""
        if self.label:
            axes.xaxis.set_major_locator(round_ticks(most, whole=self.label == "time (steps)"))
            axes.set_xlabel(self.label if label else "")
            return
        locator = AutoDateLocator(minticks=2, maxticks=most)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def plain_text(text: str, *, longest: int = 28) -> str:
    r"""Return text that matplotlib shows as it was written: on one line, never as mathematics, never too long.

    What is too long loses its middle, as names that start alike often differ at their ends. A character that
    the font lacks (an emoji) becomes U+FFFD, which says that something stood there.

    >>> plain_text("cost in $\n per $", longest=40)
    'cost in \\$ per \\$'
    >>> plain_text("angular velocity of the front knee", longest=20)
    'angular veloc…t knee'
    """
    normal = unicodedata.normalize("NFC", " ".join(text.split()))
    visible = (c for c in normal if unicodedata.category(c) not in {"Cc", "Cf"} and c not in SELECTORS)
    shown = "".join(c if ord(c) in _drawable() else UNKNOWN_GLYPH for c in visible)
    if len(shown) > longest:
        tail = longest // 3
        shown = shown[: longest - tail - 1].rstrip() + ELLIPSIS + shown[-tail:].lstrip()
    return shown.replace("$", r"\$")


def fitted(text: str, width_in: float, *, size: float = 9.0) -> str:
    """Return `plain_text` that is no wider than a number of inches, at a font size in points.

    >>> fitted("angular velocity of the front knee", 1.0), fitted("knee", 1.0)
    ('angular v…knee', 'knee')
    """
    longest = max(4, min(len(text), 200))
    while text_width_in(shown := plain_text(text, longest=longest), size=size) > width_in and longest > 4:
        longest -= 1
    return shown


def text_width_in(text: str, *, size: float = 9.0) -> float:
    """Return the width of a line in inches, at a font size in points."""
    font = get_font(findfont(FONT))
    font.set_size(size, DPI)
    font.set_text(text.replace(r"\$", "$"))
    return float(font.get_width_height()[0]) / 64 / DPI


@cache
def _drawable() -> frozenset[int]:
    """Code points for which the font has a glyph."""
    return frozenset(get_font(findfont(FONT)).get_charmap())
