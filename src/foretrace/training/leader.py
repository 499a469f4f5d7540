"""What the first process does for those that train along: starts them, tells them what to train, ends with them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # is there at run time

from foretrace.config import TrainConfig
from foretrace.errors import InputError
from foretrace.training.group import ORDER, Group, Order, connect, is_lost
from foretrace.training.place import TORCHRUN, Place
from foretrace.training.precision import choose

LOOPBACK = "127.0.0.1"
LAST_WORDS_S = 15.0  # within which a process ends whose connection is lost

Others = Sequence["subprocess.Popen[bytes]"]


def find_place(config: TrainConfig) -> Place:
    """Of this process: among those that were started together, or first of those that are to be started here.

    Raises:
        InputError: If there cannot be so many.
    """
    asked, place = config.trainer.devices, Place.here()
    if place.size == 1:
        place = Place(size=asked, local_size=asked)
    elif asked not in (1, place.local_size):
        expected = f"1, or {place.local_size} as were started on this machine"
        raise InputError("trainer.devices", expected=expected, received=str(asked))
    gpus = torch.cuda.device_count()
    if gpus and place.local_size > gpus:
        expected = f"at most {gpus}, the GPUs of this machine"
        raise InputError("trainer.devices", expected=expected, received=str(place.local_size))
    if place.size > config.data.batch_size:
        expected = f"at least {place.size}, a window for each process"
        raise InputError("data.batch_size", expected=expected, received=str(config.data.batch_size))
    return place


@contextmanager
def leading(place: Place, config: TrainConfig, checkpoint: Path | None) -> Iterator[Group]:
    """The group of this process; the others are told what to train, and started if nobody has done so.

    Raises:
        ChildProcessError: If one that was started here is gone before the end.
    """
    if place.size == 1:
        yield Group(place)
        return
    precision = choose(config.trainer.precision).name  # one for all, whatever each machine would choose
    trainer = config.trainer.model_copy(update={"precision": precision})
    order = Order.of(config.model_copy(update={"trainer": trainer}), checkpoint).model_dump_json()
    if place == Place.here():
        store = connect(place)
        store.set(ORDER, order)
        yield Group(place, store)
        return
    store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False)
    store.set(ORDER, order)
    with _started(place, store.port) as others:
        yield Group(place, store, watch=lambda: _check(others))


@contextmanager
def _started(place: Place, port: int) -> Iterator[Others]:
    """Starts the other processes, which share the cores with this one, and ends them with the block."""
    threads, others = torch.get_num_threads(), list[subprocess.Popen[bytes]]()
    torch.set_num_threads(max(1, threads // place.size))
    try:
        for rank in range(1, place.size):
            others.append(_start(place._replace(rank=rank, local_rank=rank), port))
        yield others
        for other in others:
            other.wait(LAST_WORDS_S)
    except RuntimeError as error:
        if is_lost(error):
            _check(others, within_s=LAST_WORDS_S, cause=error)
        raise
    finally:
        for other in others:
            other.kill()
            other.wait()
        torch.set_num_threads(threads)


def _start(place: Place, port: int) -> "subprocess.Popen[bytes]":
    environment = {name: str(number) for name, number in zip(TORCHRUN, place, strict=True)}
    environment |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(port)}
    environment |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    imports = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "foretrace.training.follower"],
        env={**os.environ, **environment, "PYTHONPATH": imports},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, and the others end with it
    )


def _check(others: Others, *, within_s: float = 0.0, cause: Exception | None = None) -> None:
    """Looks whether one has ended.

    Raises:
        ChildProcessError: If so.
    """
    for rank, other in enumerate(others, start=1):
        with suppress(subprocess.TimeoutExpired):
            status = other.wait(within_s)
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
            raise ChildProcessError(f"process {rank + 1} of {len(others) + 1} was ended {how}") from cause
