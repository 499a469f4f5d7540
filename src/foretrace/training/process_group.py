"""The processes that train one model together: started, connected, and agreeing."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # is there at run time
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from foretrace.errors import UserError
from foretrace.training.distributed import DistributedEnv

LOOPBACK = "127.0.0.1"
PATIENCE = timedelta(hours=1)  # of processes that others started, while rank 0 reads the data
LAST_WORDS_S = 15.0  # within which a process ends whose connection is lost
POLL_S = 0.05

Check = Callable[[], None]


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set in at least one process; all of them have to ask.

    >>> any_rank(True)
    True
    """
    if not distributed.is_initialized():
        return flag
    flags = torch.tensor(int(flag))
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


def all_gather(value: Any) -> list[Any]:
    """Return each process's value, by rank; all of them have to give one.

    >>> all_gather("mine")
    ['mine']
    """
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Return rank 0's value."""
    return all_gather(value)[0]


def plan_processes(devices: int, *, batch_size: int) -> DistributedEnv:
    """Return this process's place: among those that were started together, or first of those to be started here.

    The processes share the windows of each batch, of ``batch_size``.

    Raises:
        UserError: If there cannot be so many.
    """
    env = DistributedEnv.from_environ()
    if env.world_size == 1:
        env = DistributedEnv(world_size=devices, local_world_size=devices)
    elif devices not in (1, env.local_world_size):
        started = f"{env.local_world_size} processes were started on this machine"
        raise UserError(f"trainer.devices: {started}, but {devices} are set", hint="Leave it at 1.")
    size, gpus = env.local_world_size, torch.cuda.device_count()
    if gpus and size > gpus:
        raise UserError(f"trainer.devices: {size} processes, but this machine has {gpus} GPUs")
    if env.world_size > batch_size:
        raise UserError(f"data.batch_size: must be at least {env.world_size}, a window for each process")
    return env


@contextmanager
def process_group(env: DistributedEnv, *, worker: Callable[[], object] | None = None) -> Iterator[None]:
    """Connect the processes for the block; start those of this machine if nobody has, to do what ``worker`` does.

    Raises:
        ChildProcessError: In rank 0, if another process ends before the block does.
    """
    if env.world_size == 1:
        yield
    elif worker is None or DistributedEnv.from_environ() == env:
        with _connected(env, _rendezvous(env)):
            yield
    else:
        store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False)
        with _started(worker, env, store.port) as check, _connected(env, store, check):
            yield


@contextmanager
def _connected(env: DistributedEnv, store: TCPStore, check: Check = lambda: None) -> Iterator[None]:
    store.add("arrived", 1)
    while store.add("arrived", 0) < env.world_size:
        check()
        time.sleep(POLL_S)
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"  # what the processes agree on travels beside the gradients
        torch.cuda.set_device(env.local_rank)
    distributed.init_process_group(backend, store=store, rank=env.rank, world_size=env.world_size)
    try:
        yield
    except RuntimeError as error:
        # gloo's bare RuntimeErrors tell by their text alone that another process is gone.
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise ChildProcessError("another process of this training run has ended") from error
    finally:
        distributed.destroy_process_group()


def _rendezvous(env: DistributedEnv) -> TCPStore:
    """Find rank 0, or be it, where the environment says."""
    # It asks MASTER_ADDR and MASTER_PORT first, which torchrun sets; then a process of torchrun's own holds the store.
    cluster = SLURMEnvironment(auto_requeue=False)
    is_master = env.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address, port = cluster.main_address, cluster.main_port
    return TCPStore(address, port, is_master=is_master, wait_for_workers=False, timeout=PATIENCE)


@contextmanager
def _started(worker: Callable[[], object], env: DistributedEnv, port: int) -> Iterator[Check]:
    """Start the other processes, which share the cores with this one, and end them with the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // env.world_size))
    arguments, others = (worker, env.world_size, port, torch.get_num_threads()), env.world_size - 1
    context = start_processes(_work, arguments, nprocs=others, join=False)  # type: ignore[no-untyped-call]
    try:
        yield lambda: _check(context, env, within_s=0)
        _check(context, env, within_s=LAST_WORDS_S)
    except ChildProcessError as error:
        if error.__cause__ is not None:  # the connection is lost: which process was it?
            _check(context, env, within_s=LAST_WORDS_S)
        raise
    finally:
        for process in context.processes:
            process.kill()
            process.join()
        torch.set_num_threads(threads)


def _work(index: int, worker: Callable[[], object], world_size: int, port: int, threads: int) -> None:
    rank, size = str(index + 1), str(world_size)
    os.environ |= {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    os.environ |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(port)}
    torch.set_num_threads(threads)
    worker()


def _check(context: ProcessContext, env: DistributedEnv, *, within_s: float) -> None:
    end = time.monotonic() + within_s
    try:
        while not context.join(timeout=max(0, end - time.monotonic()), grace_period=0):
            if time.monotonic() >= end:
                return
    except (ProcessExitedException, ProcessRaisedException) as error:
        how = f"failed: {error}"
        if isinstance(error, ProcessExitedException):
            name, status = error.signal_name, error.exit_code
            how = f"was ended by {name}" if name else f"exited with {status}"
        raise ChildProcessError(f"process {error.error_index + 2} of {env.world_size} {how}") from None
