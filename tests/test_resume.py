"""A training that was cut and goes on ends as the one that was not cut, bit by bit."""

import signal

import mlflow
import pytest
import torch
from conftest import SMALL

from foretrace.commands import train as train_command
from foretrace.errors import Interrupted
from foretrace.training.forecaster import Forecaster
from foretrace.workspace import Workspace

# 8 windows of 6 episodes in pairs: 4 batches an epoch. Everything that draws random numbers is switched on.
LONG = [*SMALL, "data.episodes=6", "data.batch_size=4", "trainer.max_epochs=4"]
LONG += ["model.hidden_sizes=[8,8]", "model.dropout=0.2", "loss.input_noise=0.1"]
TIMED = ("gradient/", "diagnostics/")  # taken when there is time for it


@pytest.fixture
def quick(monkeypatch):
    """Draws nothing."""
    monkeypatch.setattr("foretrace.reports.report._pictures", lambda *_: [])
    monkeypatch.setattr("foretrace.reports.report._animate", lambda *_: None)


@pytest.fixture
def train(composed, here, quick):
    return lambda *overrides: train_command.run(
        composed(*overrides), overrides=list(overrides), workspace=Workspace.default()
    )


def client(root) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def newest(root) -> mlflow.entities.Run:
    return client(root).search_runs(["1"], max_results=1)[0]


def history(root, run_id: str) -> dict[str, list[tuple[int, float]]]:
    found = client(root)
    names = [name for name in found.get_run(run_id).data.metrics if not name.startswith(TIMED)]
    return {name: [(p.step, p.value) for p in found.get_metric_history(run_id, name)] for name in names}


def weights(root, run_id: str, name: str) -> dict[str, torch.Tensor]:
    path = root / "mlruns" / "artifacts" / run_id / "artifacts" / "checkpoints" / name
    return torch.load(path, weights_only=True)["state_dict"]


def same_end(root, first: str, second: str) -> bool:
    """Whether two runs hold the same points and, bit by bit, the same weights."""
    pairs = [(weights(root, first, name), weights(root, second, name)) for name in ("last.ckpt", "best.ckpt")]
    assert history(root, first) == history(root, second)
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


def cut(monkeypatch, *, at_step: int) -> None:
    """Sends the signal during a training step."""
    step = Forecaster.training_step

    def training_step(self, batch, batch_index):
        if self.global_step == at_step:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, batch_index)

    monkeypatch.setattr(Forecaster, "training_step", training_step)


@pytest.mark.parametrize(
    ("at_step", "settings"),
    [
        pytest.param(0, [], id="at once"),
        pytest.param(3, [], id="as an epoch ends"),
        pytest.param(6, ["scheduler.step_size=2"], id="within an epoch"),
        pytest.param(15, [], id="in the last batch"),
        pytest.param(6, ["trainer.weight_averaging=0.9", "scheduler=one_cycle"], id="with averaged weights"),
        pytest.param(6, ["trainer.precision=bf16-mixed"], id="bf16"),
        pytest.param(11, ["trainer.early_stopping={patience: 2, min_delta: 10}"], id="as it stops early"),
    ],
)
def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(train, here, monkeypatch, at_step, settings):
    whole = train(*LONG, *settings)
    first = newest(here).info.run_id
    with monkeypatch.context() as patch:
        cut(patch, at_step=at_step)
        with pytest.raises(Interrupted):
            train(*LONG, *settings)
    second = newest(here)
    assert second.info.status == "KILLED"
    resumed = train(f"resume={second.info.run_id}")
    assert resumed == whole
    assert same_end(here, first, second.info.run_id)
    assert client(here).get_run(second.info.run_id).info.status == "FINISHED"
