"""Whether the GPU of this machine can be used."""

import warnings

import torch


def unusable_gpu() -> str | None:
    """Return why torch cannot use a GPU that is there, e.g. as its driver is too old; None otherwise.

    torch says so in a warning of several lines, and goes on without it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    reasons = [str(warning.message) for warning in caught if "CUDA initialization" in str(warning.message)]
    return reasons[0].split("CUDA initialization: ")[-1].split(". ")[0] if reasons else None
