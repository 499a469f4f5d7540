"""Nothing in a figure is cut and nothing runs into anything else, however many features there are."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from foretrace.reports.figures import forecasts, learning, quality
from foretrace.reports.figures.style import Clock

TITLE = "recording 3 of a rather long file name in a folder of another long name, one step ahead"
STEPS, AHEAD = 80, 20
DATES = np.datetime64("2016-07-01") + np.arange(STEPS + AHEAD) * np.timedelta64(1, "h")


def names(count):
    return [
        "temperature of the coolant at the inlet of the left reactor",
        *(f"sensor_{f}" for f in range(1, count)),
    ]


def units(count):
    return ["kg·m²/s³ and so on" if f % 2 == 0 else "" for f in range(count)]


def episode(count):
    """Features of very different sizes, among them pressures far from zero."""
    sizes = 10.0 ** (np.arange(count) % 7 - 2)
    waves = np.sin(np.arange(STEPS + AHEAD)[:, None] / (3 + np.arange(count) % 9))
    return sizes * waves + np.where(np.arange(count) % 7 == 3, 101325, 0)


def fan(count):
    rows = episode(count)
    past, came = rows[:STEPS], rows[STEPS:]
    bands = {level: (came - level / 50, came + level / 50) for level in (50, 80, 90)}
    named = {"feature_names": names(count), "units": units(count), "title": TITLE}
    return forecasts.fan_chart(past, came, bands=bands, truth=came, dt_s=3600, dates=DATES, **named)


def lines(count, **time):
    rows = episode(count)
    named = {"feature_names": names(count), "units": units(count), "title": TITLE}
    return forecasts.feature_lines(rows * 1.01, rows, **named, **(time or {"dt_s": 0.05}))


def images(count, **time):
    rows = np.sin(episode(count))
    return forecasts.prediction_and_truth(
        rows + 1, rows, feature_names=names(count), title=TITLE, **(time or {"dt_s": None})
    )


def skills(count):
    values = np.random.default_rng(0).normal(size=(count, 7))
    return quality.skill_map(values, feature_names=names(count), horizons=(1, 2, 5, 10, 25, 50, 1000))


def distributions(count):
    found = np.sort(np.random.default_rng(0).normal(size=(5, count)), axis=0)
    return quality.distributions(dict.fromkeys(("train", "valid", "test"), found), feature_names=names(count))


OF_FEATURES = {
    "fan": fan,
    "lines": lines,
    "lines by date": lambda count: lines(count, dt_s=3600, dates=DATES),
    "images": images,
    "images by date": lambda count: images(count, dt_s=3600, dates=DATES),
    "skills": skills,
    "distributions": distributions,
    "residuals": lambda count: quality.residuals([np.random.default_rng(0).normal(size=(100, count))]),
}
HALF, FALLING, EPOCHS = np.full((STEPS, 64), 0.5), 0.7 ** np.arange(50.0)[::-1], np.arange(30.0)
BASELINES = ("model", "persistence", "velocity", "mean", "seasonal", "ridge", "model, not calibrated")
LAYERS = [f"lstm.{depth}" for depth in range(6)]
OTHERS = {
    "horizon": lambda: quality.error_by_horizon(
        {name: 0.1 * np.arange(1, 101) for name in BASELINES}, band=(np.full(100, 0.01), np.full(100, 9)), dt_s=0.05
    ),
    "one step ahead": lambda: quality.error_by_horizon({name: [0.1] for name in BASELINES}),
    "position": lambda: quality.error_by_position({"model": 1 / (1 + EPOCHS), "persistence": EPOCHS}, carried=0.1),
    "coverage": lambda: quality.coverage([0.5, 0.8, 0.9], np.full((3, 100), 0.7)),
    "batches": lambda: learning.loss_by_batch(np.arange(999), 1e5 / (1 + np.arange(999))),
    "epochs": lambda: learning.error_by_epoch(
        EPOCHS, train=1 / (1 + EPOCHS), valid=9 / (1 + EPOCHS), lr=0.9**EPOCHS, best_epoch=29
    ),
    "gates": lambda: learning.gate_pictures(
        {name: dict.fromkeys("ifog", HALF) for name in LAYERS[:3]}, dt_s=0.05, title=TITLE
    ),
    "gradients": lambda: learning.gradient_flow([FALLING] * 6, [FALLING] * 6, layers=LAYERS),
    "norms": lambda: learning.layer_norms(
        EPOCHS, norms=dict.fromkeys([*LAYERS, "head"], 1 + EPOCHS), updates=dict.fromkeys([*LAYERS, "head"], EPOCHS)
    ),
}  # fmt: skip


def overlaps(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


def check_legible(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = {f"axes {number}": axes.get_tightbbox(renderer) for number, axes in enumerate(figure.axes)}
    boxes |= {f"legend {n}": legend.get_window_extent(renderer) for n, legend in enumerate(figure.legends)}
    if figure._suptitle is not None:
        boxes["title"] = figure._suptitle.get_window_extent(renderer)
    width, height = figure.bbox.width + 1, figure.bbox.height + 1
    cut = [
        name for name, box in boxes.items() if box.x0 < -1 or box.y0 < -1 or box.x1 > width or box.y1 > height
    ]
    assert cut == []
    assert [pair for pair in combinations(boxes, 2) if overlaps(*(boxes[name] for name in pair))] == []


@pytest.mark.parametrize("count", [1, 7, 60])
@pytest.mark.parametrize("name", OF_FEATURES)
def test_figure_of_any_number_of_features_is_legible(name, count):
    check_legible(OF_FEATURES[name](count))


@pytest.mark.parametrize("name", OTHERS)
def test_figure_is_legible(name):
    check_legible(OTHERS[name]())


def test_clock_of_long_recordings_counts_hours_and_days():
    labels = [Clock.of(200, dt_s=step).label for step in (0.01, 6, 3600, 86400)]
    assert labels == ["time (s)", "time (min)", "time (d)", "time (d)"]
    assert Clock.of(49, dt_s=3600).label == "time (h)"
    assert Clock.of(49, dt_s=3600).x[-1] == 48
