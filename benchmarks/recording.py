"""What recording every batch's loss costs a training step: python benchmarks/recording.py.

The same points go to the same kind of database as in a run, a step of ``STEP_S`` apart; the time that the training
thread spends on them is compared with the steps' own.
"""

import statistics
import tempfile
import time
from pathlib import Path

from foretrace.tracking.store import create_run
from foretrace.workspace import Workspace

STEP_S = 1.0  # of the default job on two cores
STEPS = 30
REPEATS = 5


def share_of_a_step(root: Path, number: int) -> float:
    """Time spent on recording, as a share of the time that ``STEPS`` steps take."""
    spent = 0.0
    with create_run(Workspace(root), experiment="benchmark", name=str(number), tags={}) as tracked:
        for step in range(STEPS):
            time.sleep(STEP_S)
            began = time.perf_counter()
            tracked.log_metrics({"MSE train loss": 0.5}, step=step)
            spent += time.perf_counter() - began
    return spent / (STEPS * STEP_S)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shares = [share_of_a_step(Path(folder), number) for number in range(REPEATS)]
    print(f"recording each batch takes {statistics.median(shares):.2%} of a step of {STEP_S:g} s", end=" ")
    print(f"(median of {REPEATS}; {min(shares):.2%} to {max(shares):.2%})")
