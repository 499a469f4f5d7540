import pytest
import torch

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import InputError
from foretrace.training.optimizers import build_optimizer, check, chosen

ADAM = {"name": "Adam", "lr": 0.1}
WRONG = [
    ({"name": "Adem", "lr": 0.1}, None, r"optimizer.name: .*received Adem. Did you mean 'Adam'\?"),
    (ADAM | {"momentum": 0.9}, None, "optimizer.momentum: expected an argument of Adam, received momentum"),
    (ADAM | {"betas": 3}, None, "optimizer: expected arguments that Adam takes"),
    (
        ADAM | {"weight_decay": -1},
        None,
        "optimizer: expected arguments that Adam takes, received Invalid weight",
    ),
    (ADAM, {"name": "StepLr", "interval": "epoch"}, r"scheduler.name: .*Did you mean 'StepLR'\?"),
    (
        ADAM,
        {"name": "StepLR", "interval": "epoch"},
        "scheduler: expected arguments that StepLR takes.*step_size",
    ),
    (
        ADAM,
        {"name": "StepLR", "interval": "epoch", "step": 3},
        r"scheduler.step: .*Did you mean 'step_size'\?",
    ),
]


@pytest.mark.parametrize(("optimizer", "scheduler", "message"), WRONG)
def test_wrong_names_and_arguments_are_named(optimizer, scheduler, message):
    with pytest.raises(InputError, match=message):
        check(optimizer, scheduler)


STEP_LR = {"name": "StepLR", "interval": "epoch", "step_size": 25}
FAIL_LATER = [
    (ADAM, STEP_LR | {"step_size": 0}, "integer modulo by zero"),
    (ADAM, STEP_LR | {"step_size": "abc"}, "unsupported operand"),
    (ADAM, STEP_LR | {"gamma": "x"}, "can't multiply"),
    (ADAM, STEP_LR | {"gamma": -1.0}, "a learning rate of -0.1"),
    (ADAM, STEP_LR | {"gamma": 1e300}, "a learning rate of inf|Result too large"),
    (ADAM, {"name": "CosineAnnealingLR", "interval": "epoch", "T_max": 0}, "modulo by zero"),
    ({"name": "SGD", "lr": float("inf")}, None, "weights that are not finite"),
    ({"name": "SparseAdam", "lr": 0.1}, None, "does not support dense gradients"),
]


@pytest.mark.parametrize(("optimizer", "scheduler", "message"), FAIL_LATER)
def test_what_would_fail_within_a_run_fails_before(optimizer, scheduler, message):
    with pytest.raises(InputError, match=message) as caught:
        check(optimizer, scheduler)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "NAdam", "LBFGS"])
def test_any_optimiser_of_torch_goes_by_its_name(name):
    check({"name": name, "lr": 0.1}, {"name": "ReduceLROnPlateau", "interval": "epoch", "patience": 2})


def test_weights_decay_and_biases_do_not():
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(layer.bias)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer.parameters(), name="AdamW", lr=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight, before * 0.95)
    assert layer.bias.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("interval", "given", "batches", "taken"),
    [("step", None, 70, 70), ("step", 70, 70, 70), ("step", 69, None, 69), ("epoch", None, 70, 7)],
)
def test_a_schedule_ends_with_the_training(composed, interval, given, batches, taken):
    one_cycle = [
        "scheduler=one_cycle",
        f"scheduler.interval={interval}",
        f"scheduler.total_steps={given or 'null'}",
    ]
    config = parse(composed(*one_cycle, "trainer.max_epochs=7"), TrainConfig)
    assert chosen(config, batches=batches)["scheduler"]["total_steps"] == taken


@pytest.mark.parametrize(("interval", "given", "unit"), [("step", 69, "batches"), ("epoch", 6, "epochs")])
def test_a_schedule_that_ends_before_the_training_is_refused(composed, interval, given, unit):
    one_cycle = ["scheduler=one_cycle", f"scheduler.interval={interval}", f"scheduler.total_steps={given}"]
    config = parse(composed(*one_cycle, "trainer.max_epochs=7"), TrainConfig)
    with pytest.raises(InputError, match=f"scheduler.total_steps: .*, the {unit} of the training"):
        chosen(config, batches=70)
