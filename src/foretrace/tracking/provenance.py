"""What made a run: command, code, libraries and machine, so that another person can make it again."""

import fnmatch
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from packaging.utils import canonicalize_name

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
GIT_SECONDS = 10.0  # for one call of git; a few milliseconds in a repository of usual size
FILE_LIMIT, TOTAL_LIMIT = 1_000_000, 20_000_000  # bytes of one new file in a patch, and of all of them
PRIVATE = (
    *(".env", ".env.*", ".netrc", ".pypirc", "*.pem", "*.key", "id_rsa*", "id_ed25519*"),
    *("*credential*", "*secret*", "*password*"),
)
# A git hook sets these for its own repository, which need not be ours.
OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE")
GIT_SETTINGS = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
}


class GitError(Exception):
    """Git gave no answer, for the reason in the message."""


def _git(
    root: Path, *arguments: str, given: bytes = b"", variables: Mapping[str, str] | None = None
) -> bytes:
    """Return what git prints in a folder.

    Raises:
        GitError: If git is missing, refuses, or takes longer than `GIT_SECONDS`.
    """
    environment = {key: value for key, value in os.environ.copy().items() if key not in OF_HOOKS}
    environment |= GIT_SETTINGS | dict(variables or {})
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, env=environment, timeout=GIT_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git took longer than {GIT_SECONDS:g} s") from error
    except OSError as error:
        raise GitError(f"git cannot be started: {error.strerror}") from error
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").rpartition("fatal: ")[2].split())
        raise GitError(reason[:400] or "git gave no reason")
    return done.stdout


def read_commit(root: Path) -> dict[str, str]:
    """Return the ``commit`` of a checkout, whether its tree is ``dirty``, and the ``problem`` if that is unknown.

    Where there is no git, as in an image, the commit is the value of ``FORETRACE_COMMIT``.
    """
    try:
        head = _git(root, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        if not _git(root, "ls-tree", "--name-only", "HEAD"):  # lists this folder alone
            raise GitError("the repository around this folder holds nothing of it")
        dirty = bool(_git(root, "status", "--porcelain"))
        return {"commit": head, "dirty": str(dirty).lower(), "problem": ""}
    except GitError as error:
        commit = os.environ.get("FORETRACE_COMMIT", "unknown")
        return {"commit": commit, "dirty": "unknown", "problem": str(error)}


def uncommitted(root: Path) -> tuple[bytes, dict[str, str]]:
    """Return a patch from a checkout's commit to its tree, and the reason for each new file that it leaves out.

    ``git checkout <commit> && git apply <patch>`` restores the tree, new and binary files too, except for large
    ones and those that may hold secrets.

    Raises:
        GitError: If git does not answer, or there is no commit yet.
    """
    top = Path(os.fsdecode(_git(root, "rev-parse", "--show-toplevel")).removesuffix("\n"))
    objects = os.fsdecode(_git(top, "rev-parse", "--git-path", "objects")).removesuffix("\n")
    escaped = str(top / objects).replace("\\", "\\\\").replace('"', '\\"')
    with TemporaryDirectory() as scratch:
        aside = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{escaped}"',  # in quotes it may hold a colon
        }
        _git(top, "read-tree", "HEAD", variables=aside)
        _git(top, "add", "--update", "--", ".", variables=aside)
        new = _git(top, "ls-files", "--others", "--exclude-standard", "-z", variables=aside).split(b"\0")
        taken, left_out = _sort(top, [os.fsdecode(name) for name in sorted(new) if name])
        if taken:
            given = b"\0".join(map(os.fsencode, taken))
            _git(top, "add", "--pathspec-from-file=-", "--pathspec-file-nul", given=given, variables=aside)
        form = ("--patch", "--binary", "--full-index", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/")
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
        return _git(top, "diff-index", "--cached", *form, *plain, "HEAD", variables=aside), left_out


def _sort(top: Path, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the new files for the patch, and why the others stay out."""
    taken, left_out, total = list[str](), dict[str, str](), 0
    for name in names:
        file = top / name
        size = 0 if file.is_symlink() else file.stat().st_size
        if any(fnmatch.fnmatchcase(file.name.lower(), pattern) for pattern in PRIVATE):
            left_out[name] = "may hold secrets"
        elif name.endswith("/"):
            left_out[name] = "a repository of its own"
        elif size > FILE_LIMIT or total + size > TOTAL_LIMIT:
            left_out[name] = f"large: {size} bytes"
        else:
            taken, total = [*taken, name], total + size
    return taken, left_out


def collect(root: Path, *, device: torch.device) -> tuple[dict[str, Any], bytes]:
    """Return the state of checkout, libraries and machine as plain values, and the patch of what is not committed."""
    found, patch, left_out, problem = read_commit(root), b"", dict[str, str](), ""
    try:
        patch, left_out = uncommitted(root)
    except GitError as error:
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
    found = read_commit(root)
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
    found = read_commit(root)
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
