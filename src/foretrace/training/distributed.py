"""Which of the processes that train one model together this is. Imports nothing heavy: every command asks for it."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from foretrace.errors import UserError

HINT = "Start the processes with torchrun or srun, or unset it."


class DistributedEnv(NamedTuple):
    """A process's rank among those that train one model together.

    >>> DistributedEnv.from_environ({})
    DistributedEnv(rank=0, world_size=1, local_rank=0, local_world_size=1)
    >>> slurm = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_NODES": "2"}
    >>> DistributedEnv.from_environ(slurm)
    DistributedEnv(rank=3, world_size=4, local_rank=1, local_world_size=2)
    """

    rank: int = 0  # 0 records the run and evaluates the model
    world_size: int = 1
    local_rank: int = 0  # on this machine, and so the index of its GPU
    local_world_size: int = 1

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "DistributedEnv":
        """Return what torchrun, or srun, told this process.

        Raises:
            UserError: If the variables contradict each other.
        """
        if "MASTER_ADDR" in environ and _number("WORLD_SIZE", environ, 1) > 1:
            rank, world_size = _number("RANK", environ), _number("WORLD_SIZE", environ)
            local = _number("LOCAL_RANK", environ, 0), _number("LOCAL_WORLD_SIZE", environ, 1)
        # The variables of a SLURM step, which srun makes: a plain command in a job of several tasks is one process.
        elif (world_size := _number("SLURM_STEP_NUM_TASKS", environ, 1)) > 1:
            rank, local_rank = _number("SLURM_PROCID", environ), _number("SLURM_LOCALID", environ)
            local = local_rank, world_size // max(1, _number("SLURM_STEP_NUM_NODES", environ, 1))
        else:
            return cls()
        if rank >= world_size:
            raise UserError(f"environment: rank {rank} of {world_size} processes, counted from 0", hint=HINT)
        return cls(rank, world_size, *local)


def _number(name: str, environ: Mapping[str, str], default: int | None = None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UserError(f"{name}: must be a number in the environment, got {text or 'none'}", hint=HINT)
    return int(text)
