"""A training that was cut and goes on ends as the one that was not cut, bit by bit."""

import signal

import mlflow
import pytest
import torch
from conftest import SMALL

from foretrace import experiment
from foretrace.errors import Interrupted
from foretrace.forecaster import Forecaster

# 8 windows of 6 episodes in pairs: 4 batches an epoch. Everything that draws random numbers is switched on.
LONG = [*SMALL, "data.episodes=6", "data.batch_size=4", "trainer.max_epochs=4"]
LONG += ["model.hidden_sizes=[8,8]", "model.dropout=0.2", "loss.input_noise=0.1"]
TIMED = ("gradient/", "diagnostics/")  # taken when there is time for it


@pytest.fixture
def quick(monkeypatch):
    """Draws nothing."""
    monkeypatch.setattr("foretrace.review._pictures", lambda *_: [])
    monkeypatch.setattr("foretrace.review._animate", lambda *_: None)


@pytest.fixture
def train(composed, here, quick):
    return lambda *overrides: experiment.run(composed(*overrides), overrides=list(overrides))


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
        (0, []),
        (3, []),
        (6, ["scheduler.step_size=2"]),
        (15, []),
        (6, ["trainer.weight_averaging=0.9", "scheduler=one_cycle"]),
    ],
    ids=["at once", "as an epoch ends", "within an epoch", "in the last batch", "with averaged weights"],
)  # fmt: skip
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
    assert history(here, second.info.run_id) == history(here, first)
    for name in ("last.ckpt", "best.ckpt"):
        a, b = weights(here, first, name), weights(here, second.info.run_id, name)
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert client(here).get_run(second.info.run_id).info.status == "FINISHED"
