import warnings

import pytest
import torch

from foretrace.training.device import unusable_gpu

TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your "
    "GPU driver by downloading and installing a new version (Triggered internally at CUDAFunctions.cpp:108.)"
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(TOO_OLD, "The NVIDIA driver on your system is too old (found version 11040)"), (None, None)],
)
def test_unusable_gpu_is_said_in_one_sentence(monkeypatch, said, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(said and warnings.warn(said, stacklevel=1)))
    assert unusable_gpu() == reason
