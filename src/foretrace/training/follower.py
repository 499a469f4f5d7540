"""A process that trains along with the first one, which alone keeps the record."""

import sys
from datetime import timedelta

import lightning

from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import DivergedError, InputError, Interrupted
from foretrace.tracking.null_run import NullRun
from foretrace.training import memory
from foretrace.training.group import AT_ONCE, ORDER, PATIENCE, Group, Order, connect, is_lost
from foretrace.training.log_filters import filter_library_logs
from foretrace.training.place import Place
from foretrace.training.trainer import make_forecaster, make_trainer
from foretrace.workspace import Workspace

ENDED_EARLY = 1


def follow(*, patience: timedelta = PATIENCE) -> None:
    """Trains what the first process says, and ends with it.

    Args:
        patience: For as long, the first process may not be there yet.

    Raises:
        SystemExit: If the training ended early. Why is for the first process to say, unless it happened here.
    """
    filter_library_logs()
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
        trainer, _ = make_trainer(config, group, NullRun())
        with memory.kept(trainer.strategy.root_device):
            trainer.fit(forecaster, datamodule=data, ckpt_path=order.checkpoint, weights_only=True)


def _load(order: Order) -> tuple[WindowDataModule | None, str]:
    """The data, and what is to be the same in every process; or no data, and why."""
    try:
        data = sources.load(order.config.data, cache=Workspace.default().cache, seed=order.config.seed)
    except InputError as error:
        return None, str(error)
    if order.checkpoint is not None and not order.checkpoint.is_file():
        return None, f"no file {order.checkpoint}"
    return data, data.windows["train"].sequences.digest


if __name__ == "__main__":
    follow(patience=AT_ONCE)
