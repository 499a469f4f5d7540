"""One-step test errors in min-max units, beside the report's: python benchmarks/min_max_units.py RUN [RUN …].

Each feature's error is divided by the range of its training values, as data scaled to [0, 1] would have it; the
figure that the report gives is plausible in these units alone.
"""

import argparse
import math
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from foretrace.config import PROJECT_ROOT
from foretrace.data import sources
from foretrace.evaluation.archive import load_assessment
from foretrace.quiet import quiet_libraries
from foretrace.review import ASSESSMENT
from foretrace.settings import DataConfig
from foretrace.tracking import store
from foretrace.tracking.run import TrackedRun

REPORTED = 0.00028252945048734546


def row(run_id: str) -> dict[str, str]:
    """A run's data, sampling rate and errors."""
    client, found = store.find_run(run_id, root=PROJECT_ROOT, uri=None)
    tracked = TrackedRun(client, found, staging=PROJECT_ROOT / "mlruns" / "staging", ended=True)
    recorded: Any = OmegaConf.to_container(OmegaConf.load(tracked.fetch("config.yaml")))
    settings: sources.DataSettings = TypeAdapter(DataConfig).validate_python(recorded["data"])
    data = sources.load(settings, cache=PROJECT_ROOT / ".cache", seed=recorded["seed"])
    train = data.windows["train"].sequences
    rows = np.concatenate([train.values[first:end] for first, end in train.bounds])
    spread = np.ptp(rows, axis=0).astype(np.float64)
    cold = load_assessment(tracked.fetch(ASSESSMENT)).cold
    mse, l1 = (cold.raw.mse / spread**2).mean(), (cold.raw.l1 / spread).mean()
    return {
        "run": run_id[:8],
        "data": settings.source,
        "frozen": ", ".join(recorded["model"]["frozen"]) or "–",
        "seed": str(recorded["seed"]),
        "step, ms": f"{1000 * train.dt_s:g}" if train.dt_s else "?",
        "MSE, standard units": f"{cold.scaled.mean_mse:.5f}",
        "MSE, min-max units": f"{mse:.6f}",
        "/ the report's": f"{mse / REPORTED:.2f}",
        "L1, min-max units": f"{l1:.5f}",
        "root of MSE": f"{math.sqrt(mse):.5f}",
    }


def main() -> None:
    """Prints a table, a row per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    quiet_libraries()
    rows = [row(run_id) for run_id in parser.parse_args().runs]
    print(f"| {' | '.join(rows[0])} |\n|{'-|' * len(rows[0])}")
    print(*(f"| {' | '.join(one.values())} |" for one in rows), sep="\n")


if __name__ == "__main__":
    main()
