"""Training runs whose loss is no finite number: ended at that batch, and nothing of it is kept."""

import math
import re
from pathlib import Path

import lightning
import pytest
import torch
from helpers import SMALL, artifacts, client, history, newest, weights
from helpers import train as command
from lightning.pytorch import Callback, Trainer

from foretrace.commands import train as train_command
from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.data import sources
from foretrace.errors import DivergedError
from foretrace.training.callbacks import Divergence
from foretrace.training.module import Forecaster, build_module
from foretrace.workspace import Workspace

FEW = [*SMALL, "data.episodes=6", "trainer.max_epochs=3", "trainer.diagnose_every=null"]  # 4 batches an epoch
HIGH = [*FEW, "optimizer.lr=1e30"]  # Adam's first step leads out of the numbers


class Spoil(Callback):
    """Puts a value into row 16 of a part's second or only episode, after all checks and statistics."""

    def __init__(self, part: str, value: float) -> None:
        self.part, self.value = part, value

    def on_fit_start(self, trainer, module):
        windows = trainer.datamodule.windows[self.part]
        windows._values[windows.sequences.bounds[:2][-1, 0] + 15, 4] = self.value


@pytest.fixture
def train(composed, here):
    return lambda *overrides, **options: train_command.run(
        composed(*overrides), overrides=list(overrides), workspace=Workspace(here), evaluate=False, **options
    )


@pytest.fixture
def fit(composed, here):
    """Trains without a run."""

    def fitted(*overrides: str, callbacks: list[Callback]) -> Forecaster:
        config = parse(composed(*overrides), TrainConfig)
        data = sources.load(config.data, cache=here / ".cache", seed=1)
        lightning.seed_everything(1, verbose=False)
        module = build_module(config, data)
        options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        Trainer(
            accelerator="cpu", max_epochs=1, callbacks=callbacks, enable_model_summary=False, **options
        ).fit(module, datamodule=data)
        return module

    return fitted


def diverged(train, *overrides: str, **options) -> str:
    with pytest.raises(DivergedError) as caught:
        train(*overrides, **options)
    assert len(str(caught.value)) < 1200
    return str(caught.value)


def checkpoints(root) -> list[Path]:
    return list(artifacts(root, newest(root).info.run_id).rglob("*.ckpt"))


@pytest.mark.parametrize(
    "more", [[], ["trainer.precision=bf16-mixed", "trainer.gradient_clip=1", "trainer.ema_decay=0.9"]]
)
def test_a_step_that_is_too_large_ends_the_run_and_is_named(train, here, capsys, more):
    said = diverged(train, *HIGH, *more, "optimizer.lr=1e30")
    assert (
        "in batch 2 of epoch 1, lr 1e+30. The data are finite, the errors of the forecasts are not: " in said
    )
    assert " in episode gait " in said
    assert "Start anew with a lower optimizer.lr, or with trainer.gradient_clip=1" in said
    run = newest(here)
    assert run.info.status == "FAILED"
    assert [step for step, _ in history(here, run.info.run_id)["MSE train loss"]] == [0]
    assert not checkpoints(here)
    assert len((artifacts(here, run.info.run_id) / "divergence.txt").read_text()) > 300
    assert "resume=" not in capsys.readouterr().out  # it would come to the same end


def test_what_was_good_is_kept(train, here, monkeypatch):
    step = Forecaster.training_step

    def late(self, batch, number):
        found = step(self, batch, number)
        return found | {"loss": found["loss"] * (math.inf if self.current_epoch == 2 and number else 1)}

    monkeypatch.setattr(Forecaster, "training_step", late)
    assert "in batch 2 of epoch 3" in diverged(train, *FEW)
    run = newest(here).info.run_id
    found = history(here, run)
    assert [step for step, _ in found["val/mse"]] == [0, 1]
    assert [step for step, _ in found["MSE train loss"]] == list(range(9))
    for name in ("last.ckpt", "best.ckpt"):
        assert all(tensor.isfinite().all() for tensor in weights(here, run, name).values())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_windows_and_features_of_broken_data_are_named(train, value):
    said = diverged(train, *FEW, callbacks=[Spoil("train", value)])
    assert "Not finite in the data: 'bfoot' in episode gait " in said
    first, last = map(int, re.search(r"rows (\d+) to (\d+)", said).groups())
    assert first <= 16 <= last + 1  # the row after a window is its last target
    assert "Fix the data" in said
    assert "optimizer.lr" not in said


def test_a_validation_error_that_is_no_number_leaves_no_checkpoint(train, here):
    stopping = "trainer.early_stopping={patience: 5, min_delta: 0}"
    said = diverged(train, *FEW, stopping, callbacks=[Spoil("valid", math.nan)])
    assert "val/mse is nan after epoch 1. Not finite in the data: 'bfoot' in episode gait " in said
    assert not checkpoints(here)


def test_a_device_that_has_to_be_waited_for_is_looked_at_before_the_validation(fit):
    looking = Divergence(None, look_at_once=False)
    with pytest.raises(DivergedError, match=r"in batch 2 of epoch 1, lr 1e\+30"):
        fit(*HIGH, callbacks=[looking])


def test_divergence_leaves_training_as_it_was(fit):
    with_it = fit(*FEW, "model.dropout=0.1", callbacks=[Divergence(None)]).state_dict()
    without = fit(*FEW, "model.dropout=0.1", callbacks=[]).state_dict()
    assert all(torch.equal(with_it[name], without[name]) for name in without)


@pytest.mark.slow
def test_one_line_and_exit_status_1_and_a_sweep_goes_on(checkout):
    done = command(checkout, "-m", *FEW, "optimizer.lr=1e30,1e-3", "trainer.max_epochs=1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("failed ")]
    assert "training diverged: the loss is " in line
    runs = client(checkout).search_runs(["1"])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FAILED", "FINISHED"]  # parent, 1e30, 1e-3
