"""A checkout's git: asked with a limit on time, and without a trace in the user's repository."""

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foretrace.tracking.redaction import redact

SECONDS = 5.0  # for the commit and whether the tree differs; a few milliseconds where it is of usual size
UNKNOWN = "unknown"
NO_COMMIT = "no commit yet"
# A git hook sets these for its own repository, which need not be ours.
_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE")
_OURS = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}  # the first: never write the index


class GitError(Exception):
    """Git did not answer, for the reason given."""


class Repository:
    """The repository that a folder is in.

    Args:
        root: The folder.
        seconds: For all questions together.

    >>> Repository(Path("/"), seconds=5).line("rev-parse", "HEAD")
    Traceback (most recent call last):
    foretrace.tracking.git.GitError: not a git repository
    """

    def __init__(self, root: Path, *, seconds: float) -> None:
        self.root = root
        self.deadline = time.monotonic() + seconds
        self._seconds = seconds

    def ask(self, *arguments: str, given: bytes = b"", variables: Mapping[str, str] | None = None) -> bytes:
        """What git prints.

        Raises:
            GitError: If git is missing, refuses, or does not end in time.
        """
        command = ["git", "-C", str(self.root), "-c", "core.fsmonitor=false", *arguments]
        environment = {key: value for key, value in os.environ.items() if key not in _OF_HOOKS} | _OURS
        try:
            done = subprocess.run(  # noqa: S603
                command,
                input=given,
                capture_output=True,
                env=environment | dict(variables or {}),
                timeout=max(0.0, self.deadline - time.monotonic()),
            )
        except subprocess.TimeoutExpired as error:
            raise GitError(f"git took longer than {self._seconds:g} s") from error
        except OSError as error:
            raise GitError(f"git cannot be started: {error.strerror}") from error
        if done.returncode:
            raise GitError(_reason(done.stderr.decode(errors="replace"), self.root))
        return done.stdout

    def line(self, *arguments: str) -> str:
        """What git prints, as text without the newline."""
        return os.fsdecode(self.ask(*arguments)).removesuffix("\n")

    def commit(self) -> str:
        """The commit that is checked out.

        Raises:
            GitError: Also if the repository is one around the folder, and holds nothing of it.
        """
        commit = self.line("rev-parse", "--verify", "HEAD^{commit}")
        if not self.ask("ls-tree", "--name-only", "HEAD"):  # of this folder alone
            raise GitError("the repository around this folder holds nothing of it")
        return commit


@dataclass(frozen=True, kw_only=True)
class Code:
    """Which code ran.

    Args:
        commit: Of the checkout, or what ``FORETRACE_COMMIT`` says where there is no git, as in an image.
        dirty: Whether the tree differed from it: ``true``, ``false`` or ``unknown``.
        problem: Why something is unknown.
    """

    commit: str
    dirty: str
    problem: str = ""


def code(root: Path, *, seconds: float = SECONDS) -> Code:
    """The commit of a checkout, and whether its tree differs from it."""
    repository = Repository(root, seconds=seconds)
    try:
        commit = repository.commit()
    except GitError as error:
        return Code(commit=os.environ.get("FORETRACE_COMMIT", UNKNOWN), dirty=UNKNOWN, problem=str(error))
    try:
        changes = repository.ask("status", "--porcelain", "--untracked-files=normal")
        return Code(commit=commit, dirty=str(bool(changes)).lower())
    except GitError as error:
        return Code(commit=commit, dirty=UNKNOWN, problem=str(error))


def remote(root: Path) -> str | None:
    """The address from which the repository was cloned, without passwords."""
    try:
        return redact(Repository(root, seconds=SECONDS).line("remote", "get-url", "origin"))
    except GitError:
        return None


def distance(root: Path, commit: str) -> str:
    """How far a commit is from the one checked out, in words; empty if git cannot tell."""
    if not re.fullmatch(r"[0-9a-f]{7,64}", commit):  # it comes from a record, and could be an option
        return ""
    repository = Repository(root, seconds=SECONDS)
    try:
        since, before = repository.line("rev-list", "--count", "--left-right", f"HEAD...{commit}").split()
        files = repository.ask("diff", "--name-only", "--no-ext-diff", "-z", commit, "HEAD").count(b"\0")
    except GitError as error:
        return (
            "this repository does not have the first; perhaps git fetch brings it"
            if commit in str(error)
            else ""
        )
    elsewhere = f", and {before} there that are not in it" if before != "0" else ""
    return f"{since} commits since{elsewhere}, {files} files differ"


def sources_digest(root: Path) -> str:
    """SHA-256 over names and contents of code and settings: what tells versions apart where no git does."""
    sha = hashlib.sha256()
    for path in sorted([*(root / "src").rglob("*.py"), *(root / "conf").rglob("*.yaml")]):
        content = path.read_bytes()
        sha.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode(errors="surrogateescape"))
        sha.update(content)
    return sha.hexdigest()


def _reason(message: str, root: Path) -> str:
    if "dubious ownership" in message:
        remedy = f"`git config --global --add safe.directory {root}` allows it"
        return f"git refuses a repository that belongs to another user; {remedy}"
    if "Needed a single revision" in message or "Not a valid object name HEAD" in message:
        return NO_COMMIT
    if "not a git repository" in message:
        return "not a git repository"
    return " ".join(message.split())[-300:] or "git failed without a word"
