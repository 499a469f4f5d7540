"""Any optimiser and schedule of torch, by name, with its own arguments checked."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from foretrace.errors import InputError, nearest
from foretrace.settings import TrainConfig


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


def chosen(config: TrainConfig, *, total_steps: int = 1) -> dict[str, Any]:
    """What a configuration asks for, as `check` and `foretrace.forecaster.Forecaster` take it.

    Args:
        config: The configuration.
        total_steps: After which a schedule that has an end is there.
    """
    scheduler = config.scheduler.model_dump() if config.scheduler else None
    if scheduler and scheduler.get("total_steps", total_steps) is None:
        scheduler["total_steps"] = total_steps
    return {"optimizer": config.optimizer.model_dump(), "scheduler": scheduler}


def check(optimizer: dict[str, Any], scheduler: dict[str, Any] | None) -> None:
    """Makes both once for a parameter of no consequence.

    Raises:
        InputError: As above, before anything else was made.
    """
    trial = build_optimizer([Parameter(torch.zeros(1, 1))], **optimizer)
    if scheduler is not None:
        build_scheduler(trial, **scheduler)


def _find(group: str, name: str, module: Any, base: type) -> type:
    kinds = {n: kind for n, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, base)}
    if name not in kinds or kinds[name] is base:
        names = sorted(set(kinds) - {base.__name__})
        raise InputError(f"{group}.name", expected=f"a class of {module.__name__}", received=name,
                         remedy=nearest(name, names))  # fmt: skip
    return kinds[name]


def _call(group: str, kind: type, subject: Any, arguments: dict[str, Any]) -> Any:
    accepted = list(inspect.signature(kind).parameters)[1:]
    for key in arguments:
        if key not in accepted:
            raise InputError(f"{group}.{key}", expected=f"an argument of {kind.__name__}",
                             received=key, remedy=nearest(key, accepted))  # fmt: skip
    try:
        return kind(subject, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            group, expected=f"arguments that {kind.__name__} takes", received=str(error)
        ) from error
