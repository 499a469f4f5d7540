"""A process's place among those that train one model together. Imports nothing heavy: every command asks for it."""

import os
from collections.abc import Mapping
from typing import NamedTuple

# What PyTorch's own launcher says, and what we say to the processes that we start.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


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
        """That of a process with this environment."""
        if "MASTER_ADDR" in environ and int(environ.get("WORLD_SIZE", 1)) > 1:
            defaults = zip(TORCHRUN, cls(), strict=True)
            return cls(*(int(environ.get(name, default)) for name, default in defaults))
        # Of SLURM the step is asked, which `srun` makes: a plain command in a job of several tasks is one process.
        if (size := int(environ.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
            nodes = int(environ.get("SLURM_STEP_NUM_NODES", 1))
            return cls(int(environ["SLURM_PROCID"]), size, int(environ["SLURM_LOCALID"]), size // nodes)
        return cls()
