"""Diagnostics during training: what they find, what they cost, and that they disturb nothing."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger

from foretrace.data.windows import WindowLoader, Windows
from foretrace.evaluation.inside import WeightWatch
from foretrace.model.next_step import NextStepModel
from foretrace.training.callbacks import Diagnostics


class Small(LightningModule):
    """Two layers with dropout between them; the optimizer may leave a layer out."""

    def __init__(self, *, left_out: str | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = NextStepModel(hidden_sizes=[6, 5], num_features=2, dropout=0.3, output="change")
        self.left_out = left_out

    def training_step(self, batch, batch_index):
        forecast, _ = self.model.forward_scaled(batch.values, batch.covariates)
        return (forecast - batch.targets).square().mean()

    def configure_optimizers(self):
        layers = {name: layer for name, layer in self.model.layers().items() if name != self.left_out}
        return torch.optim.Adam([p for layer in layers.values() for p in layer.parameters()], lr=0.01)


class Recorder(DummyLogger):
    """Keeps what Lightning gives to a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics, step=None):
        self.rows.setdefault(int(metrics["epoch"]), {}).update(metrics)


@pytest.fixture
def windows(waves):
    return Windows(waves, length=12, stride=12)


@pytest.fixture
def train(windows):
    def trained(module: LightningModule, *callbacks: Callback, epochs: int = 4) -> Recorder:
        recorder = Recorder()
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=list(callbacks),
            logger=recorder,
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        torch.manual_seed(1)
        trainer.fit(module, WindowLoader(windows, batch_size=16, seed=0))
        return recorder

    return trained


def test_training_is_the_same_bit_by_bit_with_and_without(train, windows):
    kept = []
    for callbacks in ([], [Diagnostics(windows, every_n_epochs=1)]):
        module = Small()
        train(module, *callbacks)
        grads = {name: p.grad for name, p in module.named_parameters()}
        kept.append((module.state_dict(), torch.get_rng_state(), grads, module.training))
    torch.testing.assert_close(kept[0], kept[1], rtol=0, atol=0)


def test_each_epoch_s_figures_reach_the_logger(train, windows):
    diagnostics = Diagnostics(windows, every_n_epochs=2)
    rows = train(Small(), diagnostics).rows
    assert [epoch for epoch, row in rows.items() if "gradient/lstm.1/first to last" in row] == [0, 2]
    assert all(row["weights/lstm.0/update"] > 0 for row in rows.values())
    assert sorted(name for name in rows[0] if "lstm.0" in name) == [
        "gradient/lstm.0/first to last",
        "gradient/lstm.0/last step",
        "weights/lstm.0/norm",
        "weights/lstm.0/update",
    ]
    assert diagnostics.flow.c.shape == (2, 12)


def test_a_layer_that_the_optimizer_does_not_know_is_named(train, windows):
    module, diagnostics = Small(left_out="lstm.1"), Diagnostics(windows)
    module.model.freeze(["head"])
    train(module, diagnostics, epochs=1)
    assert diagnostics.lines()[2:] == ["lstm.1: trainable, but has never moved", "head: frozen"]


def test_an_update_is_measured_against_the_weights_of_the_last_call():
    model = NextStepModel(hidden_sizes=[4], num_features=2)
    watch = WeightWatch(model)
    with torch.no_grad():
        for parameter in model.stack.head.parameters():
            parameter *= 2
    first, second = watch.measure(model), watch.measure(model)
    assert first["weights/head/update"] == pytest.approx(0.5)
    assert second["weights/head/norm"] == first["weights/head/norm"]
    assert second["weights/head/update"] == 0
    assert watch.still() == ["lstm.0: trainable, but has never moved"]
