"""The processes that train one model together, and how they agree."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from pydantic import BaseModel
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # is there at run time

from foretrace.config import TrainConfig
from foretrace.training.place import Place

ORDER, ARRIVED = "order", "arrived"  # keys of the store
PATIENCE = timedelta(hours=1)  # of processes that start by themselves, while the first one reads the data
AT_ONCE = timedelta(minutes=1)  # of those that the first one starts: it is there
POLL_S = 0.05


class Order(BaseModel):
    """What the first process tells the others to train."""

    config: TrainConfig
    checkpoint: Path | None

    @classmethod
    def of(cls, config: TrainConfig, checkpoint: Path | None) -> "Order":
        """Without the tracker's address: it may hold a password, and they need none."""
        tracking = config.tracking.model_copy(update={"uri": None})
        return cls(config=config.model_copy(update={"tracking": tracking}), checkpoint=checkpoint)


class Group:
    """Those that train together; a process that trains alone is a group of one.

    What they agree on travels beside the gradients, from processor to processor (gloo): no GPU waits for it.

    Args:
        place: Of this process.
        store: By which they find each other; None for one alone.
        watch: Called while the first process waits for the others; raises if one of them is gone.

    >>> Group(Place()).any(True), Group(Place()).gather("mine")
    (True, ['mine'])
    """

    def __init__(
        self,
        place: Place,
        store: TCPStore | None = None,
        *,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.place, self._store, self._watch = place, store, watch
        self._beside: distributed.ProcessGroup | None = None

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Connects the processes, once all are there."""
        if self._store is None:
            yield
            return
        self._store.add(ARRIVED, 1)
        while self._store.add(ARRIVED, 0) < self.place.size:
            self._watch()
            time.sleep(POLL_S)
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "nccl"
            torch.cuda.set_device(self.place.local_rank)
        rank, size = self.place.rank, self.place.size
        distributed.init_process_group(backend, store=self._store, rank=rank, world_size=size)
        try:
            self._beside = distributed.new_group(backend="gloo")
            yield
        finally:
            self._beside = None
            distributed.destroy_process_group()

    def differing(self, mine: str) -> dict[int, str]:
        """What other processes have instead of what the first one has, by rank."""
        first, *others = self.gather(mine)
        return {rank: theirs for rank, theirs in enumerate(others, start=1) if theirs != first}

    def any(self, wish: bool) -> bool:
        """Whether at least one process has this wish; all of them have to ask."""
        if self._beside is None:
            return wish
        wishes = torch.tensor(int(wish))
        distributed.all_reduce(wishes, distributed.ReduceOp.MAX, group=self._beside)
        return bool(wishes)

    def gather(self, mine: Any) -> list[Any]:
        """What each process gives, by rank; all of them have to give something."""
        if self._beside is None:
            return [mine]
        found: list[Any] = [None] * self.place.size
        distributed.all_gather_object(found, mine, group=self._beside)
        return found


def connect(place: Place, *, patience: timedelta = PATIENCE) -> TCPStore:
    """Finds the first process of a group, as the environment says where; or is it, and waits for nobody yet."""
    cluster = SLURMEnvironment(
        auto_requeue=False
    )  # asks MASTER_ADDR and MASTER_PORT first, which torchrun sets
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
    return TCPStore(
        cluster.main_address,
        cluster.main_port,
        is_master=place.rank == 0 and not hosted,
        wait_for_workers=False,
        timeout=patience,
    )


def is_lost(error: RuntimeError) -> bool:
    """Whether another process is gone, of which gloo's bare RuntimeErrors tell by their text alone."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
