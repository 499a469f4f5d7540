"""A process that trains along with the first one, which alone keeps the record: ``python -m foretrace.follower``."""

import sys
from datetime import timedelta

import lightning

from foretrace import memory
from foretrace.config import PROJECT_ROOT
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import DivergedError, InputError, Interrupted
from foretrace.group import AT_ONCE, ORDER, PATIENCE, Group, Order, connect, is_lost
from foretrace.place import Place
from foretrace.quiet import quiet_libraries
from foretrace.tracking.unrecorded import Unrecorded
from foretrace.training import make_forecaster, make_trainer

ENDED_EARLY = 1


def follow(*, patience: timedelta = PATIENCE) -> None:
    """Trains what the first process says, and ends with it.

    Args:
        patience: For as long, the first process may not be there yet.

    Raises:
        SystemExit: If the training ended early. Why is for the first process to say, unless it happened here.
    """
    quiet_libraries()
    place = Place.here()
    try:
        store = connect(place, patience=patience)
        store.wait([ORDER])
        _train(Order.model_validate_json(store.get(ORDER)), Group(place, store))
    except Interrupted as interruption:
        sys.exit(interruption.exit_status)
    except DivergedError:
        sys.exit(ENDED_EARLY)
    except RuntimeError as error:
        if not is_lost(error):
            raise
        sys.exit(ENDED_EARLY)


def _train(order: Order, group: Group) -> None:
    config = order.config
    data, seen = _load(order)
    with group.joined():
        if group.differing(seen):
            sys.exit(ENDED_EARLY)
        assert data is not None, "the first process has it, and this one the same"
        lightning.seed_everything(config.seed, verbose=False)
        forecaster = make_forecaster(config, data)
        trainer, _ = make_trainer(config, group, Unrecorded())
        with memory.kept(trainer.strategy.root_device):
            trainer.fit(forecaster, datamodule=data, ckpt_path=order.checkpoint, weights_only=True)


def _load(order: Order) -> tuple[WindowDataModule | None, str]:
    """The data, and what is to be the same in every process; or no data, and why."""
    try:
        data = sources.load(order.config.data, cache=PROJECT_ROOT / ".cache", seed=order.config.seed)
    except InputError as error:
        return None, str(error)
    if order.checkpoint is not None and not order.checkpoint.is_file():
        return None, f"no file {order.checkpoint}"
    return data, data.windows["train"].sequences.digest


if __name__ == "__main__":
    follow(patience=AT_ONCE)
