"""What made a run: code, libraries, machine, command."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

# The libraries whose versions can change a result. Everything installed is in the artifact beside.
LIBRARIES = (
    "torch",
    "lightning",
    "torchmetrics",
    "numpy",
    "hydra-core",
    "mlflow",
    "gymnasium",
    "mujoco",
    "pyarrow",
)


def code(root: Path) -> dict[str, str]:
    """The commit that ran, and whether the tree differed from it.

    An image without ``.git`` says it by the environment variable ``FORETRACE_COMMIT``.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {
            "mlflow.source.git.commit": os.environ.get("FORETRACE_COMMIT", "unknown"),
            "git.dirty": "unknown",
        }
    return {
        "mlflow.source.git.commit": commit,
        "git.dirty": str(bool(_git(root, "status", "--porcelain"))).lower(),
    }


def difference(root: Path) -> str:
    """What the tree holds that the commit does not, as a patch; untracked files by name."""
    patch, untracked = _git(root, "diff", "HEAD"), _git(root, "ls-files", "--others", "--exclude-standard")
    return "\n".join(filter(None, [patch, untracked and f"Untracked files:\n{untracked}"]))


def machine(device: torch.device) -> dict[str, str]:
    """Host, processor and accelerator."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "accelerator": accelerator,
        "torch.threads": str(torch.get_num_threads()),
    }


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that matter."""
    found = {name: _version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **{name: v for name, v in found.items() if v is not None}}


def installed() -> str:
    """Every installed distribution with its version, as pins."""
    pins = {f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions() if d.metadata["Name"]}
    return "\n".join(sorted(pins, key=str.lower)) + "\n"


def command(overrides: Sequence[str]) -> str:
    """The command line that makes this one run, also where it was one of a sweep; passwords in it are hidden."""
    line = shlex.join(["python", os.path.relpath(sys.argv[0]), *overrides])
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", line)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
