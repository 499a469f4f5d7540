"""Any optimizer and schedule of torch, by name, with its own arguments checked."""

import inspect
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from foretrace.errors import UserError, suggest

if TYPE_CHECKING:  # so that the module needs PyTorch and Lightning alone, as on a borrowed GPU
    from foretrace.config import TrainConfig

TRIAL_STEPS = 1000  # of a schedule, within which most come to where they change the rate
# Schedules that are made for a length, and the argument that says it: beyond, the rate rises again or stays at 0.
LENGTHS = {
    "CosineAnnealingLR": "T_max",
    "CosineAnnealingWarmRestarts": "T_0",
    "OneCycleLR": "total_steps",
    "PolynomialLR": "total_iters",
}


def build_optimizer(parameters: Iterable[Parameter], *, name: str, **arguments: Any) -> Optimizer:
    """Return the optimizer called ``name`` in `torch.optim`. With ``weight_decay``, weights decay and biases do not.

    Raises:
        UserError: If there is none of that name, or an argument is unknown to it or out of range.
    """
    groups: Any = list(parameters)
    if arguments.get("weight_decay"):
        weights, biases = ([p for p in groups if (p.ndim > 1) == is_weight] for is_weight in (True, False))
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer: Optimizer = _build("optimizer", torch.optim, Optimizer, groups, name, arguments)
    return optimizer


def build_scheduler(optimizer: Optimizer, *, name: str, interval: str, **arguments: Any) -> LRScheduler:
    """Return the schedule called ``name`` in `torch.optim.lr_scheduler`; errors are those of `build_optimizer`."""
    scheduler: LRScheduler = _build("scheduler", lr_scheduler, LRScheduler, optimizer, name, arguments)
    return scheduler


def optimizer_settings(config: "TrainConfig", *, batches: int | None = None) -> dict[str, Any]:
    """Return what a configuration asks for, as ``optimizer`` and ``scheduler`` of a module.

    A schedule that ends with the training run needs its number of ``batches``, unless that is not known yet.

    Raises:
        UserError: If a schedule would end before the training run.
    """
    scheduler = config.scheduler.model_dump() if config.scheduler else None
    if scheduler and "total_steps" in scheduler:
        steps, unit = scheduler["total_steps"], "epochs" if scheduler["interval"] == "epoch" else "batches"
        needed = config.trainer.max_epochs if unit == "epochs" else batches
        if steps is None:
            scheduler["total_steps"] = needed or TRIAL_STEPS
        elif needed and isinstance(steps, int) and steps < needed:
            raise UserError(f"scheduler.total_steps: {steps}, but the training run has {needed} {unit}")
    return {"optimizer": config.optimizer.model_dump(), "scheduler": scheduler}


def check_optimizer(config: "TrainConfig") -> None:
    """Take a few steps with the optimizer and the schedule: some arguments fail only there.

    Raises:
        UserError: If they cannot be made, or would break the training run.
    """
    settings = optimizer_settings(config)
    group, name = "optimizer", settings["optimizer"]["name"]
    weights, optimizer, scheduler = _trial(**settings)
    try:
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step(lambda: 1.0)
        if not all(weight.isfinite().all() for weight in weights):
            raise ValueError("weights are not finite after one step")
        if scheduler is not None:
            group, name = "scheduler", settings["scheduler"]["name"]
            _advance(scheduler, min(TRIAL_STEPS, getattr(scheduler, "total_steps", TRIAL_STEPS)) - 1)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{group}: {name} cannot take a step with these arguments ({reason})") from error


def stretch_schedule(config: "TrainConfig", *, epochs: int) -> "TrainConfig":
    """Return a resumed run's settings, with a schedule made for the ``epochs`` it was begun for as one for today's."""
    if config.scheduler is None or config.scheduler.interval != "epoch":
        return config
    length = LENGTHS.get(config.scheduler.name)
    if length is None or config.scheduler.model_dump().get(length) != epochs:
        return config
    stretched = config.scheduler.model_copy(update={length: config.trainer.max_epochs})
    return config.model_copy(update={"scheduler": stretched})


def check_extension(config: "TrainConfig", *, epochs: int, batches_per_epoch: int) -> None:
    """See whether the schedule of a resumed run lasts, if it did for the ``epochs`` that the run was begun for.

    Raises:
        UserError: If not.
    """
    if config.scheduler is None or (name := config.scheduler.name) not in LENGTHS:
        return
    length = config.scheduler.model_dump().get(LENGTHS[name])
    per_epoch = 1 if config.scheduler.interval == "epoch" else batches_per_epoch
    if length is not None and epochs * per_epoch <= length < config.trainer.max_epochs * per_epoch:
        message = f"trainer.max_epochs: the schedule {name} was made for {epochs} epochs, and ends with them"
        raise UserError(message, hint="Start a new run with a schedule of the new length.")


def reschedule(checkpoint: dict[str, Any], settings: dict[str, Any]) -> None:
    """Put a checkpoint's schedule where it would be, had the run had these settings from its beginning.

    That changes its ``lr_schedulers``, and the learning rates in its ``optimizer_states``.
    """
    _, optimizer, scheduler = _trial(**settings)
    assert scheduler is not None, "a run that is resumed keeps its schedule"
    _advance(scheduler, checkpoint["lr_schedulers"][0]["last_epoch"])
    checkpoint["lr_schedulers"] = [scheduler.state_dict()]
    changed = ("lr", "betas", "momentum")
    rates = {key: value for key, value in optimizer.param_groups[0].items() if key in changed}
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group |= rates


def _trial(
    optimizer: dict[str, Any], scheduler: dict[str, Any] | None
) -> tuple[list[Parameter], Optimizer, LRScheduler | None]:
    """Both of them for parameters of no consequence."""
    weights = [Parameter(torch.zeros(1, 1)), Parameter(torch.zeros(1))]
    made = build_optimizer(weights, **optimizer)
    return weights, made, build_scheduler(made, **scheduler) if scheduler else None


def _advance(scheduler: LRScheduler, steps: int) -> None:
    """Take steps.

    Raises:
        ValueError: If the learning rate becomes something else than a number from 0 on.
    """
    metric = (1.0,) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else ()
    scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]  # or torch warns that it took no step
    for _ in range(steps):
        scheduler.step(*metric)
        rate = float(scheduler.optimizer.param_groups[0]["lr"])
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"it leads to a learning rate of {rate:g}")


def _build(group: str, module: Any, base: type, subject: Any, name: str, arguments: dict[str, Any]) -> Any:
    """Return what the class of that name in one of torch's modules makes of its subject.

    Raises:
        UserError: If there is none of that name, or an argument is unknown to it or out of range.
    """
    kinds: dict[str, Any] = {
        n: kind for n, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, base)
    }
    del kinds[base.__name__]
    if name not in kinds:
        raise UserError(f"{group}.name: {module.__name__} has no {name!r}", hint=suggest(name, kinds))
    accepted = list(inspect.signature(kinds[name]).parameters)[1:]
    for key in arguments:
        if key not in accepted:
            raise UserError(f"{group}.{key}: no argument of {name}", hint=suggest(key, accepted))
    try:
        return kinds[name](subject, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{group}: {name} does not take these arguments ({error})") from error
