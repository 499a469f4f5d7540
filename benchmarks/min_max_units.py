"""One-step test errors in min-max units, beside the report's: python benchmarks/min_max_units.py RUN [RUN …].

Each feature's error is divided by the range of its training values, as data scaled to [0, 1] would have it; the
figure that the report gives is plausible in these units alone. With runs of several sampling rates, the errors are
drawn over the step: docs/images/min_max_units.png.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from foretrace.config import DataConfig
from foretrace.data import sources
from foretrace.evaluation.storage import EVALUATION, load_evaluation
from foretrace.reports.figures.style import BLUE, INK, MUTED, VERMILLION, house_style, new_panels
from foretrace.tracking import store
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

REPORTED = 0.00028252945048734546
LOOKS = (("o-", BLUE), ("s--", VERMILLION), ("^-.", INK))
TARGET = Path(__file__).parents[1] / "docs" / "images" / "min_max_units.png"


@dataclass(frozen=True)
class Scaled:
    """A run's test errors in several units.

    Args:
        run: Id of the run.
        data: Name of its data.
        frozen: Layers that were not trained.
        seed: Seed of its training.
        step_ms: From one row of the data to the next.
        standard_mse: In units of each feature's training variance.
        mse: Mean of squared errors, each divided by the square of its feature's training range.
        l1: Mean of absolute errors, each divided by its feature's training range.
    """

    run: str
    data: str
    frozen: tuple[str, ...]
    seed: int
    step_ms: float | None
    standard_mse: float
    mse: float
    l1: float

    def cells(self) -> dict[str, str]:
        """Return a row of the table."""
        return {
            "run": self.run[:8],
            "data": self.data,
            "frozen": ", ".join(self.frozen) or "–",
            "seed": str(self.seed),
            "step, ms": f"{self.step_ms:g}" if self.step_ms else "?",
            "MSE, standard units": f"{self.standard_mse:.5f}",
            "MSE, min-max units": f"{self.mse:.6f}",
            "/ the report's": f"{self.mse / REPORTED:.2f}",
            "L1, min-max units": f"{self.l1:.5f}",
            "root of MSE": f"{math.sqrt(self.mse):.5f}",
        }


def read(run_id: str) -> Scaled:
    """Read a run's errors, and the ranges from its data."""
    tracked = store.find_run(run_id, Workspace.default())
    recorded: Any = OmegaConf.to_container(OmegaConf.load(tracked.download_artifact("config.yaml")))
    settings: sources.DataSettings = TypeAdapter(DataConfig).validate_python(recorded["data"])
    data = sources.load(settings, cache=Workspace.default().cache, seed=recorded["seed"])
    train = data.windows["train"].sequences
    rows = np.concatenate([train.values[first:end] for first, end in train.bounds])
    spread = np.ptp(rows, axis=0).astype(np.float64)
    result = load_evaluation(tracked.download_artifact(EVALUATION))
    errors = result.zero_state.errors["model"]
    raw = errors.in_units(result.scale)
    return Scaled(
        run=run_id,
        data=settings.source,
        frozen=tuple(recorded["model"]["frozen"]),
        seed=recorded["seed"],
        step_ms=1000 * train.dt_s if train.dt_s else None,
        standard_mse=float(errors.mean_mse),
        mse=float((raw.mse / spread**2).mean()),
        l1=float((raw.l1 / spread).mean()),
    )


@house_style()
def draw(runs: list[Scaled]) -> None:
    """Draws the error over the step, a line per data set and set of frozen layers."""
    figure, [[axes]] = new_panels(1, 1, height_in=3.4)
    axes.set(
        xlabel="from one row to the next, ms", ylabel="test MSE, min-max units", xscale="log", yscale="log"
    )
    kinds = list(dict.fromkeys((run.data, run.frozen) for run in runs))
    for kind, (look, color) in zip(kinds, LOOKS, strict=False):
        own = sorted((run.step_ms or math.nan, run.mse) for run in runs if (run.data, run.frozen) == kind)
        label = " ".join((kind[0], *(["with", *kind[1], "frozen"] if kind[1] else [])))
        axes.plot(*zip(*own, strict=True), look, color=color, label=label)
    axes.axhline(
        REPORTED, color=MUTED, linestyle=":", label="the report's figure, on data that it does not name"
    )
    steps = sorted({run.step_ms for run in runs if run.step_ms})
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    figure.legend(loc="outside upper left", ncols=3)
    figure.savefig(TARGET)


def main() -> None:
    """Print a table, a row per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    filter_library_logs()
    runs = [read(run_id) for run_id in parser.parse_args().runs]
    rows = [run.cells() for run in runs]
    print(f"| {' | '.join(rows[0])} |\n|{'-|' * len(rows[0])}")
    print(*(f"| {' | '.join(one.values())} |" for one in rows), sep="\n")
    if len({run.step_ms for run in runs}) > 1:
        draw(runs)


if __name__ == "__main__":
    main()
