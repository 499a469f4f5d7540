"""Any optimiser and schedule of torch, by name, with its own arguments checked."""

import inspect
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from foretrace.config import TrainConfig
from foretrace.errors import InputError, suggest

TRIAL_STEPS = 1000  # of a schedule, in which most have come to where they change the rate


def build_optimizer(parameters: Iterable[Parameter], *, name: str, **arguments: Any) -> Optimizer:
    """Makes the optimiser called ``name`` in `torch.optim`. Weights decay if it is told so; biases never do.

    Raises:
        InputError: If there is none of that name, or an argument is unknown to it or out of range.
    """
    kind = _find("optimizer", name, torch.optim, Optimizer)
    groups: Any = list(parameters)
    if arguments.get("weight_decay"):
        weights, biases = ([p for p in groups if (p.ndim > 1) == is_weight] for is_weight in (True, False))
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer: Optimizer = _call("optimizer", kind, groups, arguments)
    return optimizer


def build_scheduler(
    optimizer: Optimizer, *, name: str, interval: str, **arguments: Any
) -> tuple[str, LRScheduler]:
    """Makes the schedule called ``name`` in `torch.optim.lr_scheduler`; returns it after its interval.

    Raises:
        InputError: If there is none of that name, or an argument is unknown to it or out of range.
    """
    kind = _find("scheduler", name, lr_scheduler, LRScheduler)
    return interval, _call("scheduler", kind, optimizer, arguments)


def chosen(config: TrainConfig, *, batches: int | None = None) -> dict[str, Any]:
    """What a configuration asks for, as `check` and `foretrace.training.forecaster.Forecaster` take it.

    Args:
        config: The configuration.
        batches: Of the whole training, after which a schedule that has an end is there; None: not known yet.

    Raises:
        InputError: If a schedule would end before the training.
    """
    scheduler = config.scheduler.model_dump() if config.scheduler else None
    if scheduler and "total_steps" in scheduler:
        steps, unit = scheduler["total_steps"], "epochs" if scheduler["interval"] == "epoch" else "batches"
        needed = config.trainer.max_epochs if unit == "epochs" else batches
        if steps is None:
            scheduler["total_steps"] = needed or TRIAL_STEPS
        elif needed and isinstance(steps, int) and steps < needed:
            expected = f"at least {needed}, the {unit} of the training"
            raise InputError("scheduler.total_steps", expected=expected, received=str(steps))
    return {"optimizer": config.optimizer.model_dump(), "scheduler": scheduler}


def check(optimizer: dict[str, Any], scheduler: dict[str, Any] | None) -> None:
    """Makes both for parameters of no consequence, and takes a few steps: some arguments fail only there.

    Raises:
        InputError: As above, before anything else was made.
    """
    weights = [Parameter(torch.zeros(1, 1)), Parameter(torch.zeros(1))]
    trial = build_optimizer(weights, **optimizer)
    schedule = build_scheduler(trial, **scheduler)[1] if scheduler else None
    with _trial("optimizer", optimizer["name"]):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        trial.step(lambda: 1.0)
        if not all(weight.isfinite().all() for weight in weights):
            raise ValueError("what makes weights that are not finite in one step")
    if schedule is None:
        return
    told = (1.0,) if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else ()
    with _trial("scheduler", type(schedule).__name__):
        for _ in range(1, min(TRIAL_STEPS, getattr(schedule, "total_steps", TRIAL_STEPS))):
            schedule.step(*told)
            rates = [float(group["lr"]) for group in trial.param_groups]
            if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
                raise ValueError(f"what leads to a learning rate of {rates[0]:g}")


@contextmanager
def _trial(group: str, name: str) -> Iterator[None]:
    """Says of whatever torch comes to in a trial that the settings lead there."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        received = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            group, expected=f"arguments with which {name} can take a step", received=received
        ) from error


def _find(group: str, name: str, module: Any, base: type) -> type:
    kinds = {n: kind for n, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, base)}
    if name not in kinds or kinds[name] is base:
        names = sorted(set(kinds) - {base.__name__})
        raise InputError(f"{group}.name", expected=f"a class of {module.__name__}", received=name,
                         remedy=suggest(name, names))  # fmt: skip
    return kinds[name]


def _call(group: str, kind: type, subject: Any, arguments: dict[str, Any]) -> Any:
    accepted = list(inspect.signature(kind).parameters)[1:]
    for key in arguments:
        if key not in accepted:
            raise InputError(f"{group}.{key}", expected=f"an argument of {kind.__name__}",
                             received=key, remedy=suggest(key, accepted))  # fmt: skip
    try:
        return kind(subject, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            group, expected=f"arguments that {kind.__name__} takes", received=str(error)
        ) from error
