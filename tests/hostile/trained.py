"""A small trained model in the forms in which one is kept, and what is said of those that cannot be used."""

import io
import pickle
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import foretrace
from foretrace.errors import UserError, is_plain
from foretrace.training.module import Forecaster

SLOWEST_S, MOST_MB = 5, 300
SETTINGS = {
    "features": {"names": ["height", "angle"], "units": ["m", "rad"], "covariates": ["push"], "dt_s": 0.1,
                 "digest": "d"},
    "model": {"hidden_sizes": [6, 5], "dropout": 0.2, "output": "linear", "input_clip": None, "frozen": []},
    "loss": {"kind": "mse", "huber_delta": 1.0, "units": "scaled", "input_noise": 0.0, "open_loop": None},
    "optimizer": {"name": "Adam", "lr": 0.001},
    "scheduler": None,
}  # fmt: skip


def checkpoint() -> dict[str, Any]:
    """What Lightning keeps of a training, as far as it is read without Lightning."""
    torch.manual_seed(0)
    state = Forecaster(**SETTINGS).state_dict()
    settings = pickle.loads(pickle.dumps(SETTINGS))  # for whoever wants to change them
    return {"epoch": 1, "global_step": 8, "state_dict": state, "hyper_parameters": settings}


def saved(content: Any, **options: Any) -> bytes:
    """As torch writes it."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def with_pickle(opcodes: bytes, whole: bytes, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with right checksums and another pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, opcodes if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


def refused(where: Path | str, load: Callable[[Any], Any] = foretrace.load) -> str:
    """What is said: one readable line, soon, and without much memory."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        load(where)
    line = str(caught.value)
    assert time.monotonic() - begun < SLOWEST_S, line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MB * 1024, line
    assert all(map(is_plain, line)), line
    assert len(line) < 1300
    return line


class Opens:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")
