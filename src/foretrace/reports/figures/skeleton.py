"""A robot's recorded motion beside its forecast, as an animated picture and as a strip of moments.

Shapes: T steps, S limbs.
"""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from PIL import Image

from foretrace.data.simulation.kinematics import Limbs
from foretrace.reports.figures.style import BLUE, DPI, INK, MUTED, VERMILLION, WIDTH_IN, dress, house_style

FloatArray = npt.NDArray[np.float64]

FRAME_S = 0.04  # 25 pictures a second; GIF counts in hundredths
SHORTEST_S = 1.5  # what is over sooner is shown slower
MAX_FRAMES = 120
HOLD_S = 1.2  # the last picture stays, so that one sees where it begins anew
NUM_COLOURS = 48
GHOST = "#CFCFCF"
GROUND = "#9A9A9A"
POINTS_PER_IN = 72
PANEL_WIDTH_IN, PANEL_HEIGHT_IN = 3.9, 1.95


@house_style()
def animate(recorded: Limbs, forecast: Limbs, *, error: npt.ArrayLike, dt_s: float) -> bytes:
    """Draws the recorded robot, beside it the forecast one with the recorded as its shadow, and the error below.

    Each panel moves along with its robot; the marks on the ground are half a metre apart. The shadow has the
    forecast's place along the ground, so that what differs is the posture. Steps at which the forecast is not
    finite show the shadow alone.

    Args:
        recorded: What was measured, T steps.
        forecast: What was forecast from the same start, as many steps.
        error: Size of the error at each step, e.g. the root mean square over the scaled features. Shape (T,).
        dt_s: Time from one row to the next in seconds, > 0.

    Returns:
        An animated GIF, usually of 200–500 kB. Motion that takes less than 1.5 s is shown slower, and says so.

    Raises:
        ValueError: If the two are not of the same robot and length, or there is nothing to draw.
    """
    sizes = _checked_errors(recorded, forecast, error, dt_s)
    pace = _pace(len(sizes), dt_s)
    figure, panels, graph = _stage(recorded)
    left, right = panels
    scene = [
        (_Robot(left, recorded, BLUE), recorded),
        (_Robot(right, recorded, GHOST), recorded),
        (_Robot(right, forecast, VERMILLION), forecast),
    ]
    left.set_title("Recorded", color=BLUE, weight="bold")
    right.set_title("Forecast over recorded (grey)", color=VERMILLION, weight="bold")
    speed = "" if pace.slower == 1 else f", {pace.slower}× slower than real"
    clock = left.set_title("", loc="right", color=MUTED)
    note = right.set_title("", loc="right", color=INK)
    dot = _draw_error(graph, sizes, dt_s)
    canvas, frames = FigureCanvasAgg(figure), []
    for moving in (left, right, dot):  # all else is drawn once
        moving.set_animated(True)
    canvas.draw()  # type: ignore[no-untyped-call]
    still = canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]
    for t in pace.steps:
        _follow(panels, (_middle(recorded, t), _middle(forecast, t)))
        for robot, limbs in scene:
            shift = _middle(forecast, t) - _middle(recorded, t) if robot.colour == GHOST else 0.0
            robot.show(limbs.ends_m[t] + [shift, 0.0])
        clock.set_text(f"{(t + 1) * dt_s:.2f} s{speed}")
        note.set_text(f"error {sizes[t]:.2f}")
        dot.set_data([(t + 1) * dt_s], [sizes[t]])
        canvas.restore_region(still)  # type: ignore[no-untyped-call]
        for panel in panels:
            figure.draw_artist(panel)
        graph.draw_artist(dot)
        picture = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        frames.append(Image.fromarray(picture[..., :3].copy()))
    return _gif(frames, pace.frame_s)


@house_style()
def filmstrip(
    recorded: Limbs, forecast: Limbs, *, error: npt.ArrayLike, dt_s: float, num_moments: int = 8
) -> Figure:
    """Draws the forecast robot over the recorded one at moments spread over the forecast; it also prints.

    Args:
        recorded: What was measured, T steps.
        forecast: What was forecast from the same start, as many steps.
        error: Size of the error at each step. Shape (T,).
        dt_s: Time from one row to the next in seconds, > 0.
        num_moments: How many moments, if there are so many steps.

    Raises:
        ValueError: If the two are not of the same robot and length, or there is nothing to draw.
    """
    sizes = _checked_errors(recorded, forecast, error, dt_s)
    moments = np.unique(np.linspace(0, len(sizes) - 1, num_moments).round().astype(int))
    columns = -(-len(moments) // 2) if len(moments) > 4 else len(moments)
    rows = -(-len(moments) // columns)
    width = WIDTH_IN / columns - 0.1
    height = 1.5
    figure = Figure(figsize=(WIDTH_IN, 0.3 + rows * height), dpi=DPI)
    for place, t in enumerate(moments):
        row, column = divmod(place, columns)
        x, y = column * (width + 0.1) + 0.05, (rows - 1 - row) * height + 0.08
        axes = _panel(figure, recorded, (x, y, width, height - 0.35))
        _follow([axes], [_middle(forecast, t)])
        shift = _middle(forecast, t) - _middle(recorded, t)
        _Robot(axes, recorded, GHOST).show(recorded.ends_m[t] + [shift, 0.0])
        _Robot(axes, forecast, VERMILLION).show(forecast.ends_m[t])
        axes.set_title(f"{(t + 1) * dt_s:.2f} s", weight="bold")
        axes.set_title(f"error {sizes[t]:.2f}", loc="right", color=MUTED, fontsize=8)
    figure.text(0.006, 1.0, "Forecast", color=VERMILLION, weight="bold", va="top")
    figure.text(0.085, 1.0, "over the recorded posture (grey)", color=MUTED, va="top")
    return figure


class _Robot:
    """A robot's capsules in one panel, the far side paler and behind."""

    def __init__(self, axes: Axes, limbs: Limbs, colour: str) -> None:
        figure = axes.get_figure(root=True)
        assert figure is not None
        points_per_m = (
            figure.get_figwidth() * axes.get_position().width * POINTS_PER_IN / np.ptp(axes.get_xlim())
        )
        self.colour = colour
        self.order = sorted(range(len(limbs.names)), key=lambda s: not limbs.far_side[s])
        self.lines = LineCollection(
            [],
            colors=[_paler(colour) if limbs.far_side[s] else colour for s in self.order],
            linewidths=[2 * limbs.radius_m[s] * points_per_m for s in self.order],
            capstyle="round",
        )
        axes.add_collection(self.lines, autolim=False)

    def show(self, ends_m: FloatArray) -> None:
        self.lines.set_segments([ends_m[s] for s in self.order])


@dataclass(frozen=True)
class _Pace:
    steps: npt.NDArray[np.int64]
    frame_s: float
    slower: int


def _pace(num_steps: int, dt_s: float) -> _Pace:
    """Which steps are shown, for how long each, and how much slower than they went."""
    length_s = num_steps * dt_s
    slower = next((factor for factor in (1, 2, 4, 8) if factor * length_s >= SHORTEST_S), 16)
    stride = max(1, round(FRAME_S / (dt_s * slower)), -(-num_steps // MAX_FRAMES))
    return _Pace(np.arange(0, num_steps, stride), stride * dt_s * slower, slower)


def _checked_errors(recorded: Limbs, forecast: Limbs, error: npt.ArrayLike, dt_s: float) -> FloatArray:
    sizes = np.asarray(error, dtype=np.float64)
    if recorded.ends_m.shape != forecast.ends_m.shape or recorded.names != forecast.names:
        raise ValueError(
            f"expected the same limbs and steps, received {recorded.ends_m.shape}, {forecast.ends_m.shape}"
        )
    if sizes.shape != recorded.ends_m.shape[:1] or not sizes.size:
        raise ValueError(f"expected {len(recorded.ends_m)} errors, at least 1, received shape {sizes.shape}")
    if not dt_s > 0:
        raise ValueError(f"expected dt_s > 0, received {dt_s}")
    return sizes


def _stage(recorded: Limbs) -> tuple[Figure, list[Axes], Axes]:
    """Two panels for the robots above a graph of the error."""
    figure = Figure(figsize=(WIDTH_IN, PANEL_HEIGHT_IN + 1.25), dpi=DPI)
    below = 0.95
    panels = [
        _panel(figure, recorded, (x, below, PANEL_WIDTH_IN, PANEL_HEIGHT_IN))
        for x in (0.1, WIDTH_IN - 0.1 - PANEL_WIDTH_IN)
    ]
    width, height = figure.get_size_inches()
    graph = figure.add_axes((0.55 / width, 0.4 / height, 1 - 0.65 / width, 0.45 / height))
    return figure, panels, graph


def _panel(figure: Figure, limbs: Limbs, place_in: tuple[float, float, float, float]) -> Axes:
    """Axes of a size in inches in which a metre is as long up as along, and high enough for the recorded robot."""
    width, height = figure.get_size_inches()
    x, y, panel_width, panel_height = place_in
    axes = figure.add_axes((x / width, y / height, panel_width / width, panel_height / height))
    low, high = -0.12, float(np.nanmax(limbs.ends_m[..., 1])) + 0.15
    axes.set_ylim(low, high)
    half = (high - low) * panel_width / panel_height / 2
    axes.set_xlim(-half, half)
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    axes.axhline(0, color=GROUND, linewidth=1.2, zorder=0)
    axes.xaxis.set_major_locator(MultipleLocator(0.5))
    axes.tick_params(axis="x", labelbottom=False, color=GROUND)
    axes.spines["bottom"].set_position(("data", 0.0))
    return axes


def _middle(limbs: Limbs, t: int) -> float:
    """Where the first limb, the torso, is along the ground; 0 where that is not finite."""
    x = float(limbs.ends_m[t, 0, :, 0].mean())
    return x if abs(x) < 1e6 else 0.0  # NaN, too; the ticks of a robot that far away cannot be counted


def _follow(panels: list[Axes], middles: "list[float] | tuple[float, ...]") -> None:
    for axes, middle in zip(panels, middles, strict=True):
        half = np.ptp(axes.get_xlim()) / 2
        axes.set_xlim(middle - half, middle + half)


def _draw_error(axes: Axes, sizes: FloatArray, dt_s: float) -> Line2D:
    times = (1 + np.arange(len(sizes))) * dt_s  # the first forecast is a step after the last measurement
    axes.plot(times, sizes, color=VERMILLION, linewidth=1.2)
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("error")
    axes.set_xlabel("time since the last measurement (s)", labelpad=1)
    dress(axes, labelsize=8)
    (dot,) = axes.plot([], [], "o", color=INK, markersize=5, clip_on=False)
    return dot


def _paler(colour: str) -> tuple[float, float, float]:
    red, green, blue = (0.45 + 0.55 * channel for channel in to_rgb(colour))
    return red, green, blue


def _gif(frames: list[Image.Image], frame_s: float) -> bytes:
    """Packs frames with one palette, so that only what moves is stored anew."""
    sample = Image.fromarray(np.concatenate([np.asarray(f) for f in frames[:: max(1, len(frames) // 4)]]))
    palette = sample.quantize(NUM_COLOURS, method=Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette() or []).reshape(-1, 3)
    colours[(colours >= 248).all(axis=1)] = 255  # Pillow looks colours up in cells of 8: near white is white
    palette.putpalette(colours.ravel().tolist())
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [round(frame_s * 100) * 10] * (len(frames) - 1) + [round(HOLD_S * 1000)]  # ms
    packed = io.BytesIO()
    indexed[0].save(
        packed,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    return packed.getvalue()
