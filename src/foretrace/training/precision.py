"""Which arithmetic a training run computes in, where that is left to the hardware."""

from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """The arithmetic as Lightning names it, and why it was chosen.

    >>> resolve_precision("32-true")
    Precision(name='32-true', reason='as set')
    """

    name: str
    reason: str


def resolve_precision(setting: str) -> Precision:
    """Resolve ``auto``: bf16 where the hardware multiplies it, else fp32.

    In ``bf16-mixed`` products are of bf16; weights, their sums and the optimizer stay in fp32. Hardware that only
    emulates bf16 would be slower by it.

    Args:
        setting: ``auto``, or the precision itself.
    """
    if setting != "auto":
        return Precision(setting, "as set")
    if torch.cuda.is_available():
        hardware = torch.cuda.get_device_name()
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        hardware = "this processor"
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if native:
        return Precision("bf16-mixed", f"auto: {hardware} multiplies bf16")
    return Precision("32-true", f"auto: {hardware} does not multiply bf16 itself")
