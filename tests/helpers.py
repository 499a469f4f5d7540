"""What tests of several rooms use: settings, commands, and a look at what a run left."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run

from foretrace.data.sequences import Sequences
from foretrace.data.windows import Batch
from foretrace.evaluation.calibration import Calibration
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import ModelCard
from foretrace.serving.predictor import Predictor
from foretrace.training.module import Forecaster

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "datasets"

# The real job made small: one simulated second, a layer of 8, two batches.
SMALL = [
    "data.episodes=4",
    "data.steps=40",
    "data.window=10",
    "data.stride=10",
    "data.batch_size=4",
    "model.hidden_sizes=[8]",
    "trainer.max_epochs=1",
    "trainer.precision=32-true",
    "trainer.progress=false",
    "evaluation={warmup: 8, horizon: 10}",
]
# 8 windows of 6 episodes in pairs: 4 batches an epoch. Everything that draws random numbers is switched on.
LONG = [*SMALL, "data.episodes=6", "data.batch_size=4", "trainer.max_epochs=4"]
LONG += ["model.hidden_sizes=[8,8]", "model.dropout=0.2", "loss.input_noise=0.1"]
TIMED = ("gradient/", "diagnostics/")  # taken when there is time for it
NAMES = ["height", "angle", "push"]


def new_checkout(root: Path) -> Path:
    """Copies what a clone has to a folder that is not there yet."""
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "mlruns").mkdir()
    (root / "mlflow.db").symlink_to("mlruns/mlflow.db")
    return root


def train(
    checkout: Path, *overrides: str, command: str = "train", **options: object
) -> subprocess.CompletedProcess[str]:
    """Runs the real command of a checkout in a process of its own."""
    arguments = [sys.executable, str(checkout / "src" / f"{command}.py"), *overrides]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


def client(root: Path) -> mlflow.MlflowClient:
    """MLflow's own view of a workspace."""
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def newest(root: Path) -> Run:
    """The run that began last."""
    return client(root).search_runs(["1"], max_results=1)[0]


def only_run(root: Path) -> Run:
    """The one run that there is."""
    [found] = client(root).search_runs(["1"])
    return found


def artifacts(root: Path, run_id: str) -> Path:
    """The folder of a run's artifacts."""
    return root / "mlruns" / "artifacts" / run_id / "artifacts"


def history(root: Path, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """All points of a run but those that depend on time."""
    found = client(root)
    names = [name for name in found.get_run(run_id).data.metrics if not name.startswith(TIMED)]
    return {name: [(p.step, p.value) for p in found.get_metric_history(run_id, name)] for name in names}


def weights(root: Path, run_id: str, name: str) -> dict[str, torch.Tensor]:
    """The weights in one of a run's checkpoints."""
    return torch.load(artifacts(root, run_id) / "checkpoints" / name, weights_only=True)["state_dict"]


def same_end(root: Path, first: str, second: str) -> bool:
    """Whether two runs hold the same points and, bit by bit, the same weights."""
    pairs = [(weights(root, first, name), weights(root, second, name)) for name in ("last.ckpt", "best.ckpt")]
    assert history(root, first) == history(root, second)
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


def cut(monkeypatch: pytest.MonkeyPatch, *, at_step: int) -> None:
    """Sends this process SIGTERM during a training step."""
    step = Forecaster.training_step

    def training_step(self: Forecaster, batch: Batch, batch_index: int) -> object:
        if self.global_step == at_step:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, batch_index)

    monkeypatch.setattr(Forecaster, "training_step", training_step)


def numbered(lengths: list[int], **more: object) -> Sequences:
    """Episodes whose values say which episode and which row they are: 1000 e + t."""
    episodes = [1000.0 * e + np.arange(float(n))[:, None] for e, n in enumerate(lengths)]
    return Sequences.from_episodes(episodes, feature_names=["number"], **more)


def made(*, covariates: bool = True, gaussian: bool = False, seed: int = 0, **settings: object) -> Predictor:
    """A model that is far from trivial, with features of different scales."""
    torch.manual_seed(seed)
    card = ModelCard(
        feature_names=NAMES[:2],
        units=["m", "rad"],
        covariate_names=NAMES[2:] if covariates else [],
        dt_s=0.1,
        data_digest="d1",
        model={"hidden_sizes": [6, 5], "dropout": 0.2, "output": "linear", "frozen": []} | settings,
        run_id="r1",
    )
    model = network(card, gaussian=gaussian)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.4, 0.4)
    model.set_statistics(
        mean=torch.tensor([50.0, 0.0]),
        std=torch.tensor([9.0, 0.1]),
        change=torch.tensor([0.5, 0.02]),
        covariate_mean=torch.ones(int(covariates)),
        covariate_std=torch.full((int(covariates),), 2.0),
    )
    return Predictor(card, model)


def network(card: ModelCard, *, gaussian: bool) -> NextStepModel:
    """A card's network with random weights, which gives a spread if it is Gaussian."""
    model = card.build()
    if not gaussian:
        return model
    heads = {name: weight for name, weight in model.state_dict().items() if name.startswith("stack.head")}
    return card.build(model.state_dict() | {name: torch.cat([w, w]) for name, w in heads.items()})


def calibrated(predictor: Predictor) -> Predictor:
    """The same model with intervals, which for two features and three steps ahead are all different."""
    widths = np.arange(1.0, 13.0).reshape(2, 3, 2) / 10
    predictor.calibration = Calibration(
        levels=(50.0, 90.0),
        center=np.array([0.1, -0.2]),
        shrinkage=np.linspace(1, 0.5, 6).reshape(3, 2),
        half_width=widths,
        exponent=np.linspace(0, 1, 6).reshape(3, 2) if predictor.model.stack.spread else None,
        warmup=5,
        starts=40,
        groups=8,
        by="recording",
        independent=20.0,
    )
    return predictor


def rows(count: int, *, covariates: bool = True, seed: int = 0) -> pd.DataFrame:
    """Random rows for the model above."""
    drawn = np.random.default_rng(seed).normal([50, 0, 1], [9, 0.1, 2], size=(count, 3))
    return pd.DataFrame(drawn, columns=NAMES)[NAMES if covariates else NAMES[:2]]
