"""foretrace itself: a run of its own, with all that it records, on the windows that it makes itself.

``ours.py data PLAN`` instead writes the recordings that all others read, and prints the error to reach.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning_watch import Watch
from speed_rows import ROOT, settings
from speed_steps import load
from trial import Plan

from foretrace.commands import train as train_command
from foretrace.evaluation.baselines import fit_baselines
from foretrace.evaluation.chunks import Scalings
from foretrace.evaluation.forecast_errors import Groups
from foretrace.evaluation.one_step import evaluate_carried_state
from foretrace.training.module import build_module
from foretrace.workspace import Workspace


def train(plan: Plan) -> None:
    """Make a run as a command does; what follows the training is left out."""
    config = settings(
        "trainer.max_epochs=1000",
        f"trainer.precision={plan.precision}",
        f"model.hidden_sizes={plan.hidden_sizes}",
        f"data.batch_size={plan.batch}",
        *plan.overrides,
    )
    watch = Watch(plan, lambda forecaster, x: forecaster.model.forward_scaled(x, x[..., :0])[0])
    with TemporaryDirectory(prefix="foretrace-peers-") as folder, redirect_stdout(io.StringIO()):
        root = Path(folder)
        (root / ".cache").symlink_to(ROOT / ".cache")  # simulated data
        watch.trial.begin()
        train_command.run(config, workspace=Workspace(root), callbacks=[watch], evaluate=False)
    watch.report("torch", "lightning", "mlflow")


def write(plan: Plan) -> None:
    """Standardised recordings, (E, rows, F) each; and the ridge regression's one-step test error."""
    config = settings(*plan.overrides)
    data = load(config)
    parts = {name: windows.sequences for name, windows in data.windows.items()}
    model = build_module(config, data).model
    folder = Path(plan.data)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        rows = model.scaling(torch.from_numpy(parts[name].values)).numpy()  # of all parts
        np.save(folder / f"{name}.npy", np.stack([rows[first:end] for first, end in parts[name].bounds]))
    baselines = fit_baselines(
        parts["train"], parts["valid"], scalings=Scalings.of(model), longest=plan.window
    )
    groups = Groups.of(parts["test"], stretch=plan.window)
    carried = evaluate_carried_state(model, baselines, parts["test"], groups, warmup=plan.window)
    print(json.dumps({"target": float(carried.errors["ridge"].mean_mse)}))


if __name__ == "__main__":
    if sys.argv[1] == "data":
        write(Plan(**json.loads(sys.argv.pop())))
    else:
        train(Plan.given())
