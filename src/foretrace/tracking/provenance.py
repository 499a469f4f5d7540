"""What made a run: command, code, libraries and machine, so that another person can make it again."""

import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from packaging.utils import canonicalize_name

from foretrace.tracking import git
from foretrace.tracking.redaction import redact, redacted

ENVIRONMENT = "provenance/environment.json"
PATCH = "provenance/uncommitted.patch"
STARTS = "provenance/starts.jsonl"
# Libraries whose version can change a result: each is a tag of the run. All others are in its artifacts.
LIBRARIES = (
    *("torch", "lightning", "torchmetrics", "numpy", "hydra-core", "mlflow"),
    *("gymnasium", "mujoco", "pyarrow"),
)
# Environment variables that change figures, speed or the order of sums. Never all of them: those hold secrets.
PREFIXES = (
    *("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "NPY_", "ATEN_", "ONEDNN_", "DNNL_"),
    *("CUDA_", "NVIDIA_VISIBLE_", "NVIDIA_TF32_", "CUBLAS_", "CUDNN_", "HIP_", "ROCR_", "TORCH", "PYTORCH_"),
    *("PYTHONHASHSEED", "PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("MUJOCO_GL", "LANG", "LC_ALL", "LC_NUMERIC", "TZ", "SOURCE_DATE_EPOCH"),
)


def collect(root: Path, *, device: torch.device) -> tuple[dict[str, Any], bytes]:
    """Return the state of checkout, libraries and machine as plain values, and the patch of what is not committed."""
    found, patch, left_out, problem = git.code(root), b"", dict[str, str](), ""
    try:
        patch, left_out = git.uncommitted(root)
    except git.GitError as error:
        problem = str(error)
    found |= {"dirty": "true"} if patch else {}  # changes also in files at which git was told not to look
    changes = {"patch": hashlib.sha256(patch).hexdigest() if patch else None, "patch problem": problem}
    record = {
        "time": _now(),
        "process": {
            "arguments": [redact(argument) for argument in sys.orig_argv[1:]],
            "directory": os.path.relpath(Path.cwd(), root),  # to which relative paths in the settings belong
        },
        "code": found | {"sources": sources_digest(root)} | changes | {"left out": left_out},
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "libraries": {"installed": _installed()},
        "computer": _computer(),
        "accelerator": _accelerator(device),
        "torch": _torch(),
        "variables": redacted({k: v for k, v in os.environ.copy().items() if k.startswith(PREFIXES)}),
    }
    return record, patch


def tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the part of a record by which runs are found and compared."""
    computer, libraries = record["computer"], record["libraries"]["installed"]
    found = {"git.dirty": record["code"]["dirty"], "accelerator": str(record["accelerator"]["name"])}
    found |= {name: str(computer[name]) for name in ("host", "platform", "processor", "cores")}
    found |= {"torch.threads": str(record["torch"]["threads"]), "version.python": record["python"]["version"]}
    return found | {f"version.{name}": libraries[name] for name in LIBRARIES if name in libraries}


def code(root: Path) -> dict[str, str]:
    """Return the commit that runs and whether the tree differs from it, as tags; and why, if that is unknown."""
    found = git.code(root)
    problem = {"git.problem": found["problem"]} if found["problem"] else {}
    return {"mlflow.source.git.commit": found["commit"], "git.dirty": found["dirty"], **problem}


def sources_digest(root: Path) -> str:
    """Return the SHA-256 of code and settings: it tells versions apart where there is no git."""
    sha = hashlib.sha256()
    for path in sorted([*(root / "src").rglob("*.py"), *(root / "conf").rglob("*.yaml")]):
        content = path.read_bytes()
        sha.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode(errors="surrogateescape"))
        sha.update(content)
    return sha.hexdigest()


def command(overrides: Sequence[str]) -> str:
    """Return the command line that makes this one run, also where it is one of a sweep; without passwords."""
    return shlex.join(map(redact, ["python", os.path.relpath(sys.argv[0]), *overrides]))


def start(root: Path, overrides: Sequence[str], **what: Any) -> str:
    """Return the line about a start of a run for ``provenance/starts.jsonl``, without passwords.

    Beside the command, it says ``what`` kind of start it is, and what it changed.
    """
    found = git.code(root)
    line = {"time": _now(), "command": command(overrides), "host": platform.node(), "pid": os.getpid()}
    line |= {"commit": found["commit"], "dirty": found["dirty"]} | what
    return json.dumps(redacted(line)) + "\n"


def _installed() -> dict[str, str]:
    """Return the version of every installed distribution by its normal name; the first on the path is imported."""
    # Each look at a distribution's metadata reads its file.
    read = (one.metadata for one in metadata.distributions())
    found = [(canonicalize_name(one["Name"]), one["Version"]) for one in read if one["Name"]]
    return dict(sorted(dict(reversed(found)).items()))


def _computer() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": next(models, platform.processor()),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),  # bytes
    }


def _accelerator(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":  # asking for CUDA devices takes memory on them
        return {"name": device.type}
    found, driver = torch.cuda.get_device_properties(device), Path("/proc/driver/nvidia/version")
    return {
        "name": found.name,
        "memory": found.total_memory,  # bytes
        "capability": f"{found.major}.{found.minor}",
        "driver": " ".join(driver.read_text().partition("\n")[0].split()) if driver.exists() else "",
    }


def _torch() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cuDNN deterministic": torch.backends.cudnn.deterministic,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of fp32 products": torch.get_float32_matmul_precision(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
