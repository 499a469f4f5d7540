"""Where the arithmetic is left to the hardware."""

import pytest
import torch

from foretrace.training.precision import resolve_precision


@pytest.mark.parametrize(("multiplies", "name"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_on_a_processor_that_multiplies_it(multiplies, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: multiplies)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert resolve_precision("auto").name == name
    assert "this processor" in resolve_precision("auto").reason


@pytest.mark.parametrize(("native", "name"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_asks_the_gpu_and_takes_no_imitation(native, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation
    )
    assert resolve_precision("auto").name == name
