"""What a setting does to the result: every result, and means over seeds with their intervals.

Shapes: N results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from foretrace.reports.figures.style import BLUE, INK, VERMILLION, dress, house_style, new_figure, plain_text

FloatArray = npt.NDArray[np.float64]
Interval = Callable[[Sequence[float]], tuple[float, float, float]]  # mean, low, high; NaN where unknown

GREEN, PURPLE, OCHRE = "#009E73", "#CC79A7", "#B8860B"
LOOKS = (
    (BLUE, "o", "-"),
    (VERMILLION, "s", "--"),
    (GREEN, "^", "-."),
    (PURPLE, "D", ":"),
    (OCHRE, "v", "-"),
    (INK, "p", "--"),
)
MAX_LINES = len(LOOKS)
MAX_LABELS = 12  # values that can stand below the axis
LOG_FROM_RATIO = 100.0  # two decades
LOG_ERROR_FROM_RATIO = 20.0
FREE = 1.2  # space above and below the results, as a share of their range
SPREAD = 0.025  # from one line's dots to the next one's, as a share of the axis


@dataclass(frozen=True)
class Scale:
    """Where the values of a setting stand.

    >>> Scale.of(["0.1", "0.001"]).kind, Scale.of(["0", "0.1"]).kind, Scale.of(["adam", "sgd"]).kind
    ('log', 'linear', 'categorical')
    """

    kind: str  # log, linear or categorical
    places: Mapping[str, float]  # on an axis that is linear: powers of ten of what is on a log scale

    @classmethod
    def of(cls, values: Sequence[str]) -> "Scale":
        """Log for positive numbers over two decades or more, linear for other numbers, else one place for each."""
        numbers = {value: _number(value) for value in dict.fromkeys(values)}
        known = {value: number for value, number in numbers.items() if number is not None}
        low, high = min(known.values(), default=0.0), max(known.values(), default=0.0)
        if len(known) < len(numbers) or len(known) < 2:
            return cls("categorical", {value: float(place) for place, value in enumerate(numbers)})
        if low > 0 and high >= LOG_FROM_RATIO * low:
            return cls("log", {value: float(np.log10(number)) for value, number in known.items()})
        if low >= 0 and _is_crowded(sorted(known.values())):
            ordered = sorted(known, key=lambda value: known[value])
            return cls("categorical", {value: float(place) for place, value in enumerate(ordered)})
        return cls("linear", known)

    @property
    def width(self) -> float:
        """From the first place to the last."""
        places = list(self.places.values())
        return (max(places) - min(places)) or 1.0


@house_style()
def setting_effect(
    values: Sequence[str],
    results: npt.ArrayLike,
    *,
    setting: str,
    interval: Interval,
    others: Sequence[str] = (),
    of_others: str = "",
    name: str = "val/mse",
) -> Figure:
    """Draws results against one setting: each faint, their means with intervals bold.

    Results which differ in nothing but the seed are one mean. Where other settings vary too, each combination of
    those has a line of its own if there are at most six; else the mean is over them all, and the legend says so.

    Args:
        values: The setting's value of each result, as typed. N of them.
        results: NaN or infinite for what diverged: a cross at the upper edge. Shape (N,).
        setting: Its name.
        interval: Mean and interval of the results of one place.
        others: Combination of the other settings of each result; empty if nothing else varies.
        of_others: Names of those settings.
        name: What was measured; labels the y axis.

    Raises:
        ValueError: If there is no result, or not one value per result.

    >>> mean = lambda results: (sum(results) / len(results), float("nan"), float("nan"))
    >>> setting_effect(["0", "0.1"], [2, 1], setting="model.dropout", interval=mean).axes[0].get_xlabel()
    'model.dropout'
    """
    y = np.asarray(results, dtype=np.float64)
    if not len(y) or y.shape != (len(values),):
        raise ValueError(f"expected one result per value, at least 1, received {y.shape} and {len(values)}")
    scale = Scale.of(values)
    x = np.array([scale.places[value] for value in values])
    lines, finite = _lines(list(others) or [""] * len(y)), np.isfinite(y)
    figure = new_figure(3.6 + 0.2 * (len(lines) // 2))
    axes = figure.add_subplot(xlabel=plain_text(setting, longest=60), ylabel=plain_text(name, longest=48))
    pooled = len(set(others)) if len(lines) == 1 else 1
    repeated = any(_are_repeated(x[of & finite]) for of in lines.values())
    axes.set_title(_caption(repeated, pooled, of_others, missing=int((~finite).sum())))
    # A line from one result to the next would say that nothing else differs between them.
    looks = LOOKS if pooled == 1 or repeated else [(color, marker, "") for color, marker, _ in LOOKS]
    for place, ((label, of), look) in enumerate(zip(lines.items(), looks, strict=False)):
        shift = (place - (len(lines) - 1) / 2) * SPREAD * scale.width
        _Line(plain_text(label, longest=52), look, shift, scale).draw(
            axes, x[of & finite], y[of & finite], interval
        )
    at_the_edge = axes.get_xaxis_transform()
    axes.plot(x[~finite], np.ones((~finite).sum()), "x", color=INK, transform=at_the_edge, clip_on=False)
    _finish(axes, scale, y[finite])
    if len(lines) > 1:
        figure.legend(loc="outside upper left", ncols=1 if len(lines) < 3 else 2)
    return figure


def _are_repeated(x: FloatArray) -> bool:
    """Whether there are means to draw: in a random search two results share a place by chance only."""
    return 0 < 2 * len(np.unique(x)) <= len(x)


def _lines(combinations: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which results make up each line: those of one combination; all if these are too many, or one each."""
    apart = dict.fromkeys(combinations)
    if len(apart) > MAX_LINES or len(apart) == len(combinations):
        return {"": np.full(len(combinations), True)}
    return {one: np.array([combination == one for combination in combinations]) for one in apart}


def _caption(repeated: bool, pooled: int, of_others: str, *, missing: int) -> str:
    told = "each job's result"
    if repeated:
        names = plain_text(of_others, longest=30)
        what = f"{pooled} combinations of {names}" if pooled > 1 else "seeds"
        told = f"faint: each result; bold: mean over {what}, 95 % interval"
    return told + (f"; ×: {missing:,} not finite" if missing else "")


@dataclass(frozen=True)
class _Line:
    """Results that belong together: a dot for each, and where they share a place, mean and interval."""

    label: str
    look: tuple[str, str, str]  # colour, marker, line style
    shift: float
    scale: Scale

    def draw(self, axes: Axes, x: FloatArray, y: FloatArray, interval: Interval) -> None:
        color, marker, line = self.look
        places = np.unique(x)
        style = line if self.scale.kind != "categorical" and len(places) <= MAX_LABELS else ""
        if not _are_repeated(x):
            order = np.argsort(x, kind="stable")
            axes.plot(
                x[order] + self.shift,
                y[order],
                marker + style,
                color=color,
                ms=5,
                mew=0,
                label=self.label or None,
            )
            return
        beside = self.shift - 0.4 * SPREAD * self.scale.width  # not behind the mean
        axes.plot(x + beside, y, marker, color=color, alpha=0.35, ms=4.5, mew=0)
        estimates = np.array([interval(list(y[x == place])) for place in places])
        means, arms = estimates[:, 0], np.nan_to_num(np.abs(estimates[:, 1:].T - estimates[:, 0]))
        bars = axes.errorbar(
            places + self.shift, means, yerr=arms, fmt=marker + style, color=color, label=self.label or None
        )
        bars[0].set(markersize=7.5, markeredgecolor="white", linewidth=1.8, zorder=4)
        bars[2][0].set(linewidth=1.8)


def _are_apart(places: FloatArray, width: float) -> bool:
    """Whether a label at each place leaves the next one room."""
    return bool(np.diff(np.unique(places)).min(initial=width) > 0.07 * width)


def _finish(axes: Axes, scale: Scale, known: FloatArray) -> None:
    margin = (0.06 if scale.kind != "categorical" else 0.12) * scale.width + (len(scale.places) == 1)
    places = np.array(list(scale.places.values()))
    axes.set_xlim(places.min() - margin, places.max() + margin)
    if len(places) <= MAX_LABELS and (scale.kind == "categorical" or _are_apart(places, scale.width)):
        long = sum(len(value) for value in scale.places) > 70
        texts = [plain_text(value, longest=24) for value in scale.places]
        axes.set_xticks(places, texts, rotation=20 if long else 0, ha="right" if long else "center")
    elif scale.kind == "log":
        decades = np.arange(np.ceil(places.min()), np.floor(places.max()) + 1)
        axes.set_xticks(decades, [f"{10**power:.3g}" for power in decades])
    elif scale.kind == "categorical":
        axes.xaxis.set_major_locator(NullLocator())
    if len(known):
        _scale_results(axes, float(known.min()), float(known.max()))
    dress(axes)


def _scale_results(axes: Axes, low: float, high: float) -> None:
    """Keeps the results apart: of intervals, those of three seeds fit always, those of two may leave the picture."""
    if low > 0 and high >= LOG_ERROR_FROM_RATIO * low:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(low / (high / low) ** 0.3, high * (high / low) ** 0.3)
    elif high > low:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, low - FREE * (high - low)), min(top, high + FREE * (high - low)))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _is_crowded(numbers: Sequence[float]) -> bool:
    """Whether 0 and numbers over two decades would all but coincide on a linear axis."""
    positive = [number for number in numbers if number > 0]
    return len(positive) > 1 and len(numbers) <= MAX_LABELS and positive[-1] >= LOG_FROM_RATIO * positive[0]
