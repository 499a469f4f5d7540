"""What all figures share: colours, size, type, and text that appears as it was written."""

import unicodedata
from contextlib import ContextDecorator
from functools import cache

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours can be told apart by colour-blind people; each meaning also has its own line style.
BLUE = "#0072B2"
SKY = "#56B4E9"
VERMILLION = "#D55E00"
INK = "#222222"
MUTED = "#666666"
GRID = "#E3E3E3"
# Diverging from white, told apart by colour-blind people, and without a grey: that is left for what is not finite.
DIVERGING = "RdBu_r"
NOT_FINITE = "#8A8A8A"

WIDTH_IN, DPI = 8.2, 110  # 902 px: the width at which MLflow shows an image, so that 9 pt stay 9 pt
FONT = "DejaVu Sans"  # comes with matplotlib, so a figure is the same on every machine
ELLIPSIS, UNKNOWN_GLYPH = "…", "\ufffd"
SELECTORS = (
    "\ufe0e\ufe0f"  # say whether the character before is text or an emoji, and have no look of their own
)


def house_style() -> ContextDecorator:
    """Decorates a function that draws, so that no matplotlibrc and no notebook changes its look."""
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


def new_figure(height_in: float) -> Figure:
    """An empty figure of the house's width, outside pyplot's global list, so that it is freed after use."""
    return Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")


def dress(axes: Axes, *, grid: bool = True, labelsize: float = 8.5) -> None:
    """Gives axes the house's ticks and grid; kept by the axes, as ticks are made only when drawn."""
    axes.tick_params(which="both", color=MUTED, labelcolor=INK, labelsize=labelsize, labelfontfamily=FONT)
    if grid:
        axes.grid(visible=True, color=GRID, linewidth=0.7)


def count_on_x(axes: Axes) -> None:
    """Puts whole numbers on the x axis, with thousands apart."""
    axes.xaxis.set_major_locator(round_ticks(10, whole=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def round_ticks(most: int, *, whole: bool = False) -> MaxNLocator:
    """Ticks at multiples of 1, 2 or 5 times a power of ten; ``whole`` for what is counted."""
    return MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1 if whole else 2)


def plain_text(text: str, *, longest: int = 28) -> str:
    r"""Text that matplotlib shows as it was written: on one line, never as mathematics, never too long.

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


@cache
def _drawable() -> frozenset[int]:
    """Code points for which the font has a glyph."""
    return frozenset(get_font(findfont(FONT)).get_charmap())
