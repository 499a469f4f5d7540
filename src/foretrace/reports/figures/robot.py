"""A robot's recorded motion beside its forecast, as an animated picture.

Shapes: T steps, S limbs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from PIL import Image

from foretrace.data.simulation.robots import Limbs
from foretrace.reports.figures.style import BLUE, INK, MUTED, VERMILLION, house_style, new_panels

MAX_FRAMES, FRAME_S, SHORTEST_S = 30, 0.1, 3.0  # motion that takes less than 3 s is shown slower
SHADOW, GROUND = "#CFCFCF", "#9A9A9A"


@house_style()
def animate(path: Path, recorded: Limbs, forecast: Limbs, *, error: npt.ArrayLike, dt_s: float) -> None:
    """Draw the recorded robot, and beside it the forecast one with the recorded as its shadow.

    Each panel moves along with its robot; the marks on the ground are half a meter apart. The shadow has the
    forecast's place along the ground, so that what differs is the posture. Steps at which the forecast is not
    finite show the shadow alone.

    Args:
        path: Of the animated GIF.
        recorded: What was measured, T steps.
        forecast: What was forecast from the same start, as many steps.
        error: Size of the error at each step. Shape (T,).
        dt_s: Time from one row to the next in seconds, > 0.
    """
    sizes = np.asarray(error, np.float64)
    no_ticks: dict[str, Any] = {"xticks": [], "yticks": []}
    figure, [[left, right]] = new_panels(1, 2, height_in=2.3, grid=False, subplot_kw=no_ticks)
    figure.set_layout_engine("constrained", w_pad=0.1)  # else the titles of both run into each other
    left.set_title("Recorded", color=BLUE, weight="bold")
    right.set_title("Forecast over recorded (gray)", color=VERMILLION, weight="bold")
    clock, note = left.set_title("", loc="right", color=MUTED), right.set_title("", loc="right", color=INK)
    figure.set_dpi(80)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the axes stay where they are now
    high = float(np.nanmax(recorded.ends_m[..., 1])) + 0.15
    robots = [
        (*_robot(left, recorded, BLUE, high), recorded, recorded),
        (*_robot(right, recorded, SHADOW, high), recorded, forecast),
        (*_robot(right, forecast, VERMILLION, high), forecast, forecast),
    ]
    slower = max(1, round(SHORTEST_S / (len(sizes) * dt_s)))
    moving = [clock, note, *(artist for lines, ground, *_ in robots for artist in (ground, lines))]
    for artist in moving:
        artist.set_animated(True)
    canvas: Any = FigureCanvasAgg(figure)  # of which few functions have types
    canvas.draw()  # once, all that stays: half the time of PillowWriter, which draws all of each frame
    still, frames = canvas.copy_from_bbox(figure.bbox), []
    for t in np.unique(np.linspace(0, len(sizes) - 1, min(MAX_FRAMES, len(sizes))).astype(int)):
        for lines, ground, limbs, center in robots:
            ends = limbs.ends_m[t] - [_middle(limbs, t), 0.0]  # the torso stays in the middle
            lines.set_segments(list(ends))
            ground.set_xdata(np.arange(-6, 7) * 0.5 - _middle(center, t) % 0.5)
        clock.set_text(f"{(t + 1) * dt_s:.2f} s" + (f", {slower}× slower than real" if slower > 1 else ""))
        note.set_text(f"error {sizes[t]:.2f}")
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=int(1000 * FRAME_S), loop=0)


def _robot(axes: Axes, limbs: Limbs, color: str, high: float) -> tuple[LineCollection, Line2D]:
    """Lines as thick as a robot's limbs, those of the far side paler, and the marks on the ground.

    A meter is as long up as along.
    """
    box = axes.get_window_extent()
    low, pixels_per_m = -0.12, box.height / (high + 0.12)
    half = box.width / pixels_per_m / 2
    axes.set(xlim=(-half, half), ylim=(low, high))
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, position=("data", 0.0), color=GROUND)
    # The marker is matplotlib.markers.TICKDOWN, which its types know as a number only.
    ground = Line2D(np.zeros(13), np.zeros(13), marker=3, ls="", ms=3.5, mew=0.8, color=GROUND)
    axes.add_line(ground)
    points_per_m = pixels_per_m * 72 / axes.figure.dpi
    paler = tuple(0.45 + 0.55 * channel for channel in to_rgb(color))
    lines = LineCollection(
        [],
        colors=[paler if far else color for far in limbs.far_side],
        linewidths=list(2 * limbs.radius_m * points_per_m),
        capstyle="round",
    )
    axes.add_collection(lines, autolim=False)
    return lines, ground


def _middle(limbs: Limbs, t: int) -> float:
    """Where the first limb, the torso, is along the ground; 0 where that is not finite."""
    x = float(limbs.ends_m[t, 0, :, 0].mean())
    return x if abs(x) < 1e6 else 0.0  # NaN, too
