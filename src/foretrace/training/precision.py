"""Which arithmetic a training computes in, where that is left to the hardware."""

from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """As Lightning names it, and why it was chosen.

    >>> choose("32-true")
    Precision(name='32-true', reason='as set')
    """

    name: str
    reason: str


def choose(asked: str) -> Precision:
    """Resolves ``auto``: bf16 where the hardware multiplies it, else fp32.

    In ``bf16-mixed`` products are of bf16; weights, their sums and the optimiser stay in fp32. Hardware that only
    imitates bf16 would be slower by it.

    Args:
        asked: ``auto``, or what it is to be.
    """
    if asked != "auto":
        return Precision(asked, "as set")
    if torch.cuda.is_available():
        hardware = torch.cuda.get_device_name()
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        hardware = "this processor"
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if native:
        return Precision("bf16-mixed", f"auto: {hardware} multiplies bf16")
    return Precision("32-true", f"auto: {hardware} does not multiply bf16 itself")
