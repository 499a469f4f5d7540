"""What made a run: command, code, libraries, machine. From this another person gets it again."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from foretrace.tracking import git, libraries, machine
from foretrace.tracking.redaction import HIDDEN, redact, redacted
from foretrace.tracking.uncommitted import uncommitted

ENVIRONMENT = "provenance/environment.json"
PATCH = "provenance/uncommitted.patch"
IMPORTED = "provenance/imported.txt"
STARTS = "provenance/starts.jsonl"
_PLAIN = "__hidden__"  # what the shell need not quote


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made a run, as it is recorded.

    Args:
        record: All of it, as plain values: what ``provenance/environment.json`` holds.
        tags: The part by which runs are found and compared.
        artifacts: Contents of files by their path among a run's artifacts.
    """

    record: Mapping[str, Any]
    tags: Mapping[str, str]
    artifacts: Mapping[str, bytes]

    def write(self, folder: Path) -> list[str]:
        """Writes the artifacts below a folder; returns their paths in it."""
        for path, content in self.artifacts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return list(self.artifacts)


def collect(root: Path, *, device: torch.device) -> Provenance:
    """Looks at the checkout, the libraries and the machine.

    Args:
        root: The checkout.
        device: On which it computes.
    """
    code, patch = _code(root)
    packages, texts = _libraries(root)
    computer, accelerator, torch_state = (
        machine.computer(),
        machine.accelerator(device),
        machine.torch_state(),
    )
    record = {
        "time": _now(),
        "process": {
            "arguments": [redact(argument) for argument in sys.orig_argv[1:]],
            "directory": os.path.relpath(Path.cwd(), root),  # what relative paths among the settings mean
        },
        "code": code,
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "libraries": packages,
        "computer": computer,
        "accelerator": accelerator,
        "torch": torch_state,
        "variables": machine.variables(),
    }
    dirty = {"git.dirty": code["dirty"]}
    versions = {f"version.{name}": version for name, version in libraries.environment().items()}
    return Provenance(
        record=record,
        tags=dirty | versions | machine.tags(computer, accelerator, torch_state["threads"]),
        artifacts={ENVIRONMENT: (json.dumps(record, indent=1) + "\n").encode()} | patch | texts,
    )


def code(root: Path) -> dict[str, str]:
    """The commit that ran and whether the tree differed from it, as tags; and why, if that is unknown.

    An image without ``.git`` says it by the environment variable ``FORETRACE_COMMIT``.
    """
    found = git.code(root)
    problem = {"git.problem": found.problem} if found.problem else {}
    return {"mlflow.source.git.commit": found.commit, "git.dirty": found.dirty, **problem}


def imported(root: Path) -> str:
    """What was imported so far, as pins; the deviations from the lock as comments above them."""
    names, lock = libraries.imported(), root / libraries.LOCK
    text = lock.read_text() if lock.is_file() else None
    remarks = ["the checkout has no lock"] if text is None else libraries.deviations(text, names)
    return "".join(f"# {remark}\n" for remark in remarks) + libraries.pins(names)


def command(overrides: Sequence[str]) -> str:
    """The command line that makes this one run, also where it was one of a sweep; passwords in it are hidden."""
    arguments = ["python", os.path.relpath(sys.argv[0]), *overrides]
    return shlex.join(redact(argument).replace(HIDDEN, _PLAIN) for argument in arguments).replace(
        _PLAIN, HIDDEN
    )


def start(
    kind: Literal["new", "resume", "rerun"],
    *,
    command: str,
    code: Mapping[str, str],
    changed: Mapping[str, tuple[Any, Any]] | None = None,
    step: int | None = None,
    of: str | None = None,
) -> str:
    """The line about this start for ``provenance/starts.jsonl``.

    Args:
        kind: Whether the run is new, goes on, or repeats another.
        command: As `command` gives it.
        code: As `code` gives it.
        changed: Settings that differ from the start before, old and new value.
        step: Of the checkpoint from which it goes on.
        of: The run that it repeats.
    """
    line = {
        "time": _now(),
        "kind": kind,
        "command": command,
        "host": platform.node(),
        "pid": os.getpid(),
        "commit": code["mlflow.source.git.commit"],
        "dirty": code["git.dirty"],
        "changed": redacted(changed or {}),
        "step": step,
        "of": of,
    }
    return json.dumps(line) + "\n"


def _code(root: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    found, tree = git.code(root), uncommitted(root)
    files = {PATCH: tree.patch, "provenance/left_out.tsv": tree.table().encode(errors="surrogateescape")}
    hidden = {"dirty": "true"} if tree.patch else {}  # changes in files at which git was told not to look
    record = (
        asdict(found)
        | hidden
        | {
            "remote": git.remote(root),
            "sources": git.sources_digest(root),
            "patch": sha256(tree.patch).hexdigest() if tree.patch else None,
            "patch problem": tree.problem,
            "left out": [asdict(file) for file in tree.left_out],
        }
    )
    return record, {path: content for path, content in files.items() if content}


def _libraries(root: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    names, lock = libraries.imported(), root / libraries.LOCK
    content = lock.read_bytes() if lock.is_file() else None
    record = {
        "installed": dict(libraries.installed()),
        "imported": names,
        "imported, of no distribution": libraries.unpackaged(root),
        "lock": sha256(content).hexdigest() if content else None,  # None: the checkout has none
        "not as locked": libraries.deviations(content.decode(), names) if content else None,
    }
    files = {"provenance/installed.txt": libraries.pins().encode(), IMPORTED: imported(root).encode()}
    return record, files | ({f"provenance/{libraries.LOCK}": content} if content else {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
