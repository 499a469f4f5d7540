"""Which GPU is used, which arithmetic is left to the hardware, and memory between two steps."""

import ctypes
import resource
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from foretrace.training.hardware import resolve_precision, retain_freed_memory, unusable_gpu

TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your "
    "GPU driver by downloading and installing a new version (Triggered internally at CUDAFunctions.cpp:108.)"
)
SIZE = 40 << 20  # above what glibc ever keeps by itself
PAGES = SIZE // resource.getpagesize()
ROUNDS = 20  # within which glibc finds room for a block in what it holds
CPU = torch.device("cpu")
needs_glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="of glibc alone")


def _new_pages():
    """That the system had to map for a block which is taken, written and given back."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1])


def measure():
    """In a process of its own: new pages of a block before, on a GPU, within and after; and what stays behind."""
    _new_pages()
    before, resident = _new_pages(), _resident()
    with retain_freed_memory(torch.device("cuda")):
        elsewhere = min(_new_pages() for _ in range(ROUNDS))
    with suppress(RuntimeError), retain_freed_memory(CPU):
        within, held = min(_new_pages() for _ in range(ROUNDS)), _resident()
        raise RuntimeError("diverged")
    left = _resident()
    _new_pages()
    print(before, elsewhere, within, _new_pages(), held - resident, left - resident)


@needs_glibc
def test_blocks_are_taken_again_within_and_given_back_after_whatever_happens():
    command = [sys.executable, "-c", "import test_hardware; test_hardware.measure()"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    before, elsewhere, within, after, held, left = map(int, done.stdout.split())
    if before < PAGES // 2:
        pytest.skip("the system maps huge pages, or another allocator is loaded")
    assert elsewhere > PAGES // 2
    assert within < PAGES // 100
    assert held > PAGES // 2
    assert after > PAGES // 2
    assert left < PAGES // 10


@pytest.mark.parametrize(
    ("said", "reason"),
    [(TOO_OLD, "The NVIDIA driver on your system is too old (found version 11040)"), (None, None)],
)
def test_unusable_gpu_is_said_in_one_sentence(monkeypatch, said, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(said and warnings.warn(said, stacklevel=1)))
    assert unusable_gpu() == reason


@pytest.mark.parametrize(("multiplies", "name"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_on_a_processor_that_multiplies_it(multiplies, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": multiplies})
    assert resolve_precision("auto")[0] == name
    assert "this processor" in resolve_precision("auto")[1]


def test_auto_takes_no_bf16_on_a_gpu_where_forecasts_become_worse_by_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_precision("auto")[0] == "32-true"
    assert "less accurate" in resolve_precision("bf16-mixed")[1]
