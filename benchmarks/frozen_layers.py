"""How the network learns with all of its layers trained, and with some frozen: docs/images/frozen_layers.png.

python benchmarks/frozen_layers.py RUN [RUN …]
"""

import argparse
from pathlib import Path

from foretrace.reports.figures.style import (
    BLUE,
    INK,
    MUTED,
    VERMILLION,
    count_on_x,
    house_style,
    new_panels,
)
from foretrace.tracking import store
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

COLORS = (BLUE, VERMILLION, INK)
CURVES = (("val/mse", "-"), ("MSE train loss/epoch", ":"))
TARGET = Path(__file__).parents[1] / "docs" / "images" / "frozen_layers.png"

Curve = tuple[list[int], list[float]]


def read(run_id: str) -> tuple[int, float, dict[str, Curve]]:
    """Trained parameters, the last value's test error, and the errors by epoch."""
    client = store.find_run(run_id, Workspace.default()).client
    curves = {}
    for name, _ in CURVES:
        points = sorted(client.get_metric_history(run_id, name), key=lambda point: point.step)
        curves[name] = [point.step for point in points], [point.value for point in points]
    metrics = client.get_run(run_id).data.metrics
    last_value = metrics["test/mse"] / (1 - metrics["skill"])
    return int(metrics["parameters/trainable"]), last_value, curves


@house_style()
def main() -> None:
    """Draws a line per run, in a color per number of trained parameters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    filter_library_logs()
    runs = [read(run_id) for run_id in parser.parse_args().runs]
    colors = dict(zip(sorted({trained for trained, _, _ in runs}, reverse=True), COLORS, strict=False))
    figure, [[axes]] = new_panels(1, 1, height_in=3.6)
    axes.set(xlabel="epoch", ylabel="MSE, standard units", yscale="log")
    count_on_x(axes)
    for trained, _, curves in runs:
        for name, line in CURVES:
            axes.plot(*curves[name], line, color=colors[trained], linewidth=1.2)
    for trained, color in colors.items():
        axes.plot([], [], color=color, label=f"{trained:,} parameters trained")
    axes.plot([], [], ":", color=MUTED, label="– on the training part")
    axes.axhline(runs[0][1], color=MUTED, linestyle="--", label="repeating the last value, test part")
    figure.legend(loc="outside upper left", ncols=2)
    figure.savefig(TARGET)


if __name__ == "__main__":
    main()
