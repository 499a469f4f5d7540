"""Optimizers and schedules by name, and schedules of runs that are resumed for longer."""

from contextlib import nullcontext

import pytest
import torch

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.training import optimizers

ADAM = {"name": "Adam", "lr": 0.1}
STEP_LR = {"name": "StepLR", "interval": "epoch", "step_size": 25, "gamma": 0.1}
COSINE = {"name": "CosineAnnealingLR", "interval": "epoch"}


@pytest.fixture
def config(composed):
    def make(optimizer=None, scheduler=None, *overrides: str, epochs: int = 50) -> TrainConfig:
        settings = parse(composed(f"trainer.max_epochs={epochs}", *overrides), TrainConfig).model_dump()
        asked = {"optimizer": optimizer or ADAM, "scheduler": scheduler}
        return TrainConfig.model_validate(settings | asked)

    return make


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "message"),
    [
        (
            ADAM | {"name": "Adem"},
            None,
            r"optimizer\.name: torch\.optim has no 'Adem'\. Did you mean Adam\?",
        ),
        (ADAM | {"momentum": 0.9}, None, r"optimizer\.momentum: no argument of Adam"),
        (ADAM | {"weight_decay": -1}, None, "optimizer: Adam does not take these arguments"),
        (ADAM, STEP_LR | {"name": "StepLr"}, r"scheduler\.name: .*Did you mean StepLR\?"),
        (ADAM, {"name": "StepLR", "interval": "epoch"}, "scheduler: StepLR does not take .*step_size"),
        (ADAM, STEP_LR | {"step": 3}, r"scheduler\.step: no argument of StepLR\. Did you mean step_size\?"),
        # What torch takes, and fails with at the first step.
        (ADAM, STEP_LR | {"step_size": 0}, "integer modulo by zero"),
        (ADAM, STEP_LR | {"gamma": -1.0}, "a learning rate of -0.1"),
        (ADAM, STEP_LR | {"gamma": 1e300, "step_size": 1}, "a learning rate of inf|Result too large"),
        ({"name": "SGD", "lr": 1e39}, None, "not finite|overflow"),
        ({"name": "SparseAdam", "lr": 0.1}, None, "does not support dense gradients"),
    ],
)
def test_check_optimizer_wrong_settings_are_named(config, optimizer, scheduler, message):
    with pytest.raises(UserError, match=message) as caught:
        optimizers.check_optimizer(config(optimizer, scheduler))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "NAdam", "LBFGS"])
def test_check_optimizer_takes_any_of_torch(config, name):
    plateau = {"name": "ReduceLROnPlateau", "interval": "epoch", "patience": 2}
    optimizers.check_optimizer(config({"name": name, "lr": 0.1}, plateau))


def test_weight_decay_leaves_biases_alone():
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(layer.bias)
    before = layer.weight.detach().clone()
    optimizer = optimizers.build_optimizer(layer.parameters(), name="AdamW", lr=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight, before * 0.95)
    assert layer.bias.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("interval", "given", "batches", "taken"),
    [("step", None, 70, 70), ("step", 70, 70, 70), ("step", 69, None, 69), ("epoch", None, 70, 7)],
)
def test_one_cycle_ends_with_the_training_run(config, interval, given, batches, taken):
    one_cycle = {"name": "OneCycleLR", "interval": interval, "max_lr": 0.1, "total_steps": given}
    found = optimizers.optimizer_settings(config(None, one_cycle, epochs=7), batches=batches)
    assert found["scheduler"]["total_steps"] == taken


def test_a_schedule_that_ends_before_the_training_run_is_refused(config):
    one_cycle = {"name": "OneCycleLR", "interval": "step", "max_lr": 0.1, "total_steps": 69}
    with pytest.raises(UserError, match=r"scheduler\.total_steps: 69, but the training run has 70 batches"):
        optimizers.optimizer_settings(config(None, one_cycle, epochs=7), batches=70)


def test_stretch_schedule_follows_a_length_that_was_the_run_s(config):
    stretched = optimizers.stretch_schedule(config(None, COSINE | {"T_max": 4}, epochs=8), epochs=4)
    assert stretched.scheduler.T_max == 8
    kept = optimizers.stretch_schedule(config(None, COSINE | {"T_max": 3}, epochs=8), epochs=4)
    assert kept.scheduler.T_max == 3


@pytest.mark.parametrize(
    ("scheduler", "ends"),
    [
        (COSINE | {"T_max": 2}, False),  # rose before its run's end already
        (COSINE | {"T_max": 5}, True),
        (COSINE | {"T_max": 40, "interval": "step"}, True),
        (COSINE | {"T_max": 80, "interval": "step"}, False),
        ({"name": "PolynomialLR", "interval": "step", "total_iters": 40}, True),
        ({"name": "LinearLR", "interval": "epoch", "total_iters": 6}, False),  # a warm-up
        (STEP_LR, False),
        (None, False),
    ],
)
def test_check_extension_refuses_what_was_made_for_a_length(config, scheduler, ends):
    longer = config(None, scheduler, epochs=8)
    with pytest.raises(UserError, match="made for 4 epochs") if ends else nullcontext():
        optimizers.check_extension(longer, epochs=4, batches_per_epoch=10)


def test_reschedule_continues_as_if_the_schedule_had_been_this_one_all_along(config):
    longer = optimizers.optimizer_settings(config(None, COSINE | {"T_max": 8}))
    group = {"lr": 0.0, "params": [0, 1], "weight_decay": 0.5}
    checkpoint = {"lr_schedulers": [{"last_epoch": 4}], "optimizer_states": [{"param_groups": [group]}]}
    optimizers.reschedule(checkpoint, longer)
    assert group["lr"] == pytest.approx(0.05)
    assert group["weight_decay"] == 0.5
    assert checkpoint["lr_schedulers"][0]["T_max"] == 8
