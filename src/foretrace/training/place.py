"""A process's place among those that train one model together. Imports nothing heavy: every command asks for it."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from foretrace.errors import InputError

# What PyTorch's own launcher says, and what we say to the processes that we start.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
REMEDY = "Start by torchrun or srun, or unset it."


class Place(NamedTuple):
    """Which of how many processes this is, as whoever started them says in the environment.

    >>> Place.of({})
    Place(rank=0, size=1, local_rank=0, local_size=1)
    >>> Place.of({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_NODES": "2"})
    Place(rank=3, size=4, local_rank=1, local_size=2)
    """

    rank: int = 0  # 0 is the first, which keeps the record
    size: int = 1
    local_rank: int = 0  # among those of the same machine, and so the number of its GPU
    local_size: int = 1

    @classmethod
    def here(cls) -> "Place":
        """This process's."""
        return cls.of(os.environ)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Place":
        """That of a process with this environment.

        Raises:
            InputError: If there can be no such process.
        """
        if "MASTER_ADDR" in environ and _number("WORLD_SIZE", environ, 1) > 1:
            defaults = zip(TORCHRUN, (None, None, 0, 1), strict=True)
            rank, size, local_rank, local_size = (_number(name, environ, usual) for name, usual in defaults)
        # Of SLURM the step is asked, which `srun` makes: a plain command in a job of several tasks is one process.
        elif (size := _number("SLURM_STEP_NUM_TASKS", environ, 1)) > 1:
            rank, local_rank = (_number(name, environ) for name in ("SLURM_PROCID", "SLURM_LOCALID"))
            local_size = size // max(1, _number("SLURM_STEP_NUM_NODES", environ, 1))
        else:
            return cls()
        if rank >= size:
            received = f"number {rank}, counted from 0"
            raise InputError(
                "environment", expected=f"one of {size} processes", received=received, remedy=REMEDY
            )
        return cls(rank, size, local_rank, local_size)


def _number(name: str, environ: Mapping[str, str], default: int | None = None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InputError(name, expected="a number in the environment", received=text or "none", remedy=REMEDY)
    return int(text)
