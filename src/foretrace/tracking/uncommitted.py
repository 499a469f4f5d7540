"""What a tree holds that its commit does not, as one patch that restores it."""

import fnmatch
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from foretrace.tracking.git import NO_COMMIT, GitError, Repository

SECONDS = 20.0  # that a start may wait for a huge tree
FILE_LIMIT = 1_000_000  # bytes of one new file
TOTAL_LIMIT = 20_000_000  # bytes of all of them
PRIVATE = (
    *(".env", ".env.*", ".netrc", ".pypirc", "*.pem", "*.key", "id_rsa*", "id_ed25519*"),
    *("*credential*", "*secret*", "*password*"),
)
_NO_TIME = "not known: no time left"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A new file that is not in the patch, and why."""

    path: str
    size: int
    sha256: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Uncommitted:
    """What a commit lacks of the tree.

    ``git checkout <commit> && git apply uncommitted.patch`` restores the tree but for the files left out.

    Args:
        patch: Changes, deletions and new files, tracked or not, binary ones too; empty if there are none.
        left_out: New files that are large, or that may hold secrets.
        problem: Why there is no patch, where there should perhaps be one.

    >>> left_out = LeftOut(path="a.npy", size=7, sha256="e3b0", reason="large")
    >>> Uncommitted(left_out=(left_out,)).table().splitlines()[1].split()
    ['7', 'e3b0', 'large', 'a.npy']
    """

    patch: bytes = b""
    left_out: tuple[LeftOut, ...] = ()
    problem: str = ""

    def table(self) -> str:
        """The files left out, one on each line."""
        rows = [f"{file.size}\t{file.sha256}\t{file.reason}\t{file.path}\n" for file in self.left_out]
        return "".join(["size in bytes\tSHA-256\twhy it is not in the patch\tpath\n", *rows]) if rows else ""


def uncommitted(root: Path, *, seconds: float = SECONDS) -> Uncommitted:
    """Reads a checkout's tree; its index, its objects and its files stay as they are.

    Args:
        root: A folder in the checkout.
        seconds: How long this may take; then the problem says so, and there is no patch.
    """
    try:
        top = Repository(root, seconds=seconds).line("rev-parse", "--show-toplevel")
        with tempfile.TemporaryDirectory() as scratch:
            return _Copy(Repository(Path(top), seconds=seconds), Path(scratch)).compare()
    except GitError as error:
        return Uncommitted(problem=str(error))


class _Copy:
    """A copy of the index, into which the whole tree is added."""

    def __init__(self, repository: Repository, scratch: Path) -> None:
        self._repository, self._top = repository, repository.root
        objects = str(self._own("objects")).replace("\\", "\\\\").replace('"', '\\"')
        (scratch / "objects").mkdir()
        self._variables = {
            "GIT_INDEX_FILE": str(scratch / "index"),
            "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{objects}"',  # in quotes it may hold a colon
        }
        if self._own("index").exists():
            # With its time: git reads a file again if it is not older than the index.
            shutil.copy2(self._own("index"), scratch / "index")

    def compare(self) -> Uncommitted:
        self._unhide()
        self._ask("add", "--update", "--", ".")
        taken, left_out = self._new()
        self._ask("update-index", "--add", "--remove", "--replace", "-z", "--stdin", given=taken)
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=none")
        form = ("--patch", "--binary", "--full-index", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/")
        patch = self._ask("diff-index", "--cached", *form, *plain, self._base())
        return Uncommitted(patch=patch, left_out=tuple(left_out))

    def _unhide(self) -> None:
        """Looks also at files of which git was told not to look whether they changed."""
        listed = [entry for entry in self._ask("ls-files", "-v", "-z").split(b"\0") if entry]
        unchanged = [name[2:] for name in listed if name[:1].islower()]
        skipped = [
            n[2:] for n in listed if n[:1] in b"Ss" and os.path.lexists(self._top / os.fsdecode(n[2:]))
        ]
        for option, names in (("--no-assume-unchanged", unchanged), ("--no-skip-worktree", skipped)):
            if names:
                self._ask("update-index", option, "-z", "--stdin", given=b"\0".join(names))

    def _new(self) -> tuple[bytes, list[LeftOut]]:
        """Names of the new files for the patch, and those that stay out; no file is in the index any more."""
        only = ("--name-only", "--diff-filter=A", "--no-renames", "-z")
        staged = self._ask("diff-index", "--cached", *only, self._base())
        self._ask("update-index", "--force-remove", "-z", "--stdin", given=staged)
        untracked = self._ask("ls-files", "--others", "--exclude-standard", "-z")
        taken, left_out, total = [], [], 0
        for name in sorted({*staged.split(b"\0"), *untracked.split(b"\0")} - {b""}):
            size, objection = _size_and_objection(self._top / os.fsdecode(name), total)
            if objection:
                left_out.append(self._name(os.fsdecode(name), size, objection))
            else:
                taken.append(name)
                total += size
        return b"\0".join(taken), left_out

    def _name(self, path: str, size: int, reason: str) -> LeftOut:
        readable = (self._top / path).is_file() and os.access(self._top / path, os.R_OK)
        sha256 = _sha256(self._top / path, self._repository.deadline) if readable else "none"
        return LeftOut(path=path, size=size, sha256=sha256, reason=reason)

    def _base(self) -> str:
        try:
            return self._repository.commit()
        except GitError as error:
            if str(error) != NO_COMMIT:
                raise
            return self._ask("hash-object", "-t", "tree", "--stdin").decode().strip()

    def _own(self, name: str) -> Path:
        return self._top / self._repository.line("rev-parse", "--git-path", name)

    def _ask(self, *arguments: str, given: bytes = b"") -> bytes:
        settings = ("-c", "core.safecrlf=false", "-c", "core.splitIndex=false")
        return self._repository.ask(*settings, *arguments, given=given, variables=self._variables)


def _size_and_objection(path: Path, total: int) -> tuple[int, str]:
    try:
        found = path.lstat()
    except FileNotFoundError:  # removed meanwhile
        return 0, ""
    if stat.S_ISDIR(found.st_mode):
        return 0, "a repository of its own"
    if stat.S_ISLNK(found.st_mode):
        return found.st_size, ""
    if _matches(path.name.lower(), PRIVATE):
        return found.st_size, "may hold secrets"
    if not os.access(path, os.R_OK):
        return found.st_size, "not readable"
    if found.st_size > FILE_LIMIT:
        return found.st_size, f"larger than {FILE_LIMIT} bytes"
    return found.st_size, "all together too large" if total + found.st_size > TOTAL_LIMIT else ""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _sha256(path: Path, deadline: float) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            if time.monotonic() > deadline:
                return _NO_TIME
            sha.update(chunk)
    return sha.hexdigest()
