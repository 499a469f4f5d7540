"""A training whose figures are no numbers any more: ended at that batch, and nothing of it is kept."""

import math
import re
from pathlib import Path

import pytest
import torch
from helpers import SMALL, client, history, newest, weights
from helpers import train as command

from foretrace.commands import train as train_command
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import DivergedError
from foretrace.training.forecaster import Forecaster
from foretrace.workspace import Workspace

FEW = [*SMALL, "data.episodes=6", "trainer.max_epochs=3", "trainer.diagnose_every=null"]  # 4 batches an epoch
HIGH = [*FEW, "optimizer.lr=1e30"]  # Adam's first step leads out of the numbers
KEPT = ("last.ckpt", "best.ckpt")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One store for all: to make its tables takes longer than to train."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def train(composed, root, monkeypatch):
    monkeypatch.setenv("FORETRACE_HOME", str(root))
    monkeypatch.setattr("foretrace.commands.train.review", lambda *_, **__: {})
    return lambda *overrides: train_command.run(
        composed(*overrides), overrides=list(overrides), workspace=Workspace.default()
    )


def diverged(train, *overrides: str) -> str:
    with pytest.raises(DivergedError) as caught:
        train(*overrides)
    assert len(str(caught.value)) < 1200
    return str(caught.value)


def artifacts(root) -> Path:
    return root / "mlruns" / "artifacts" / newest(root).info.run_id / "artifacts"


def checkpoints(root) -> list[Path]:
    return list(artifacts(root).rglob("*.ckpt"))


def spoil(monkeypatch, part: str, *, value: float) -> None:
    """Puts a value into row 16 of a part's second episode or only one, after all checks and statistics."""
    setup = WindowDataModule.setup

    def spoiled(self, stage):
        setup(self, stage)
        windows = self.windows[part]
        windows._values[windows.sequences.bounds[:2][-1, 0] + 15, 4] = value

    monkeypatch.setattr(WindowDataModule, "setup", spoiled)


@pytest.mark.parametrize(
    "more", [[], ["trainer.precision=bf16-mixed", "trainer.gradient_clip=1", "trainer.weight_averaging=0.9"]]
)
def test_a_step_that_is_too_large_ends_the_run_and_is_named(train, root, capsys, more):
    said = diverged(train, *HIGH, *more, "optimizer.lr=1e30")
    assert "batch 2 of epoch 1, lr 1e+30 (before: " in said
    assert "the errors of 4 of 4 windows are not: episode gait " in said
    assert "Start anew with a lower optimizer.lr, or with trainer.gradient_clip=1" in said
    run = newest(root)
    assert run.info.status == "FAILED"
    assert [step for step, _ in history(root, run.info.run_id)["MSE train loss"]] == [0]
    assert not checkpoints(root)
    assert len((artifacts(root) / "divergence.txt").read_text()) > 300
    assert "resume=" not in capsys.readouterr().out  # it would come to the same end


def test_what_was_good_is_kept(train, root, monkeypatch):
    step = Forecaster.training_step

    def late(self, batch, number):
        found = step(self, batch, number)
        return found | {"loss": found["loss"] * (math.inf if self.current_epoch == 2 and number else 1)}

    monkeypatch.setattr(Forecaster, "training_step", late)
    said = diverged(train, *FEW)
    assert "in batch 2 of epoch 3" in said
    assert "Without dropout and noise, the errors of its 4 windows are finite" in said
    run = newest(root).info.run_id
    found = history(root, run)
    assert [step for step, _ in found["val/mse"]] == [0, 1]
    assert [step for step, _ in found["MSE train loss"]] == list(range(9))
    for name in KEPT:
        assert all(tensor.isfinite().all() for tensor in weights(root, run, name).values())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_windows_and_features_of_broken_data_are_named(train, monkeypatch, value):
    spoil(monkeypatch, "train", value=value)
    said = diverged(train, *FEW)
    assert "Not finite in the data: 'bfoot' in episode gait " in said
    first, last = map(int, re.search(r"rows (\d+) to (\d+)", said).groups())
    assert first <= 16 <= last + 1  # the row after a window is its last target
    assert "Mend the data" in said
    assert "optimizer.lr" not in said


def test_a_validation_error_that_is_no_number_leaves_no_checkpoint(train, root, monkeypatch):
    spoil(monkeypatch, "valid", value=math.nan)
    said = diverged(train, *FEW, "trainer.early_stopping={patience: 5, min_delta: 0}")
    assert "val/mse is nan after epoch 1. Not finite in the data: 'bfoot' in episode gait " in said
    assert not checkpoints(root)


def test_a_device_that_has_to_be_waited_for_is_looked_at_before_anything_is_kept(train, root, monkeypatch):
    monkeypatch.setattr("foretrace.training.callbacks.divergence.DIRECT", "no device")
    monkeypatch.setattr("foretrace.training.callbacks.divergence.LOOK_S", math.inf)
    assert "in batch 2 of epoch 1, lr 1e+30 (before: " in diverged(train, *HIGH)
    assert not checkpoints(root)


def test_it_leaves_the_training_as_it_was(train, root, monkeypatch):
    train(*FEW, "model.dropout=0.1")
    watched = newest(root).info.run_id
    for hook in ("on_before_optimizer_step", "on_train_batch_end"):
        monkeypatch.delattr(f"foretrace.training.callbacks.divergence.Divergence.{hook}")
    train(*FEW, "model.dropout=0.1")
    first, second = (weights(root, run, "last.ckpt") for run in (watched, newest(root).info.run_id))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_line_and_exit_status_1_and_a_sweep_goes_on(checkout):
    done = command(checkout, "-m", *FEW, "optimizer.lr=1e30,1e-3", "trainer.max_epochs=1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("failed ")]
    assert "training diverged: the loss is " in line
    runs = client(checkout).search_runs(["1"])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FAILED", "FINISHED"]  # parent, 1e30, 1e-3
