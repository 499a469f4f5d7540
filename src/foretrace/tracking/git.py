"""The commit that a checkout is at, and what its tree holds beyond it; the user's repository stays as it is."""

import fnmatch
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

SECONDS = 10.0  # for one call of git; a few milliseconds in a repository of usual size
UNKNOWN = "unknown"
FILE_LIMIT, TOTAL_LIMIT = 1_000_000, 20_000_000  # bytes of one new file in a patch, and of all of them
PRIVATE = (
    *(".env", ".env.*", ".netrc", ".pypirc", "*.pem", "*.key", "id_rsa*", "id_ed25519*"),
    *("*credential*", "*secret*", "*password*"),
)
# A git hook sets these for its own repository, which need not be ours.
OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE")
SETTINGS = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
}


class GitError(Exception):
    """Git gave no answer, for the reason in the message."""


def ask(root: Path, *arguments: str, given: bytes = b"", variables: Mapping[str, str] | None = None) -> bytes:
    """Return what git prints in a folder.

    Raises:
        GitError: If git is missing, refuses, or takes longer than `SECONDS`.
    """
    environment = {key: value for key, value in os.environ.copy().items() if key not in OF_HOOKS}
    environment |= SETTINGS | dict(variables or {})
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, env=environment, timeout=SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git took longer than {SECONDS:g} s") from error
    except OSError as error:
        raise GitError(f"git cannot be started: {error.strerror}") from error
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").rpartition("fatal: ")[2].split())
        raise GitError(reason[:400] or "git gave no reason")
    return done.stdout


def code(root: Path) -> dict[str, str]:
    """Return the ``commit`` of a checkout, whether its tree is ``dirty``, and the ``problem`` if that is unknown.

    Where there is no git, as in an image, the commit is the value of ``FORETRACE_COMMIT``.
    """
    try:
        head = ask(root, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        if not ask(root, "ls-tree", "--name-only", "HEAD"):  # lists this folder alone
            raise GitError("the repository around this folder holds nothing of it")
        dirty = bool(ask(root, "status", "--porcelain"))
        return {"commit": head, "dirty": str(dirty).lower(), "problem": ""}
    except GitError as error:
        commit = os.environ.get("FORETRACE_COMMIT", UNKNOWN)
        return {"commit": commit, "dirty": UNKNOWN, "problem": str(error)}


def uncommitted(root: Path) -> tuple[bytes, dict[str, str]]:
    """Return a patch from a checkout's commit to its tree, and the reason for each new file that it leaves out.

    ``git checkout <commit> && git apply <patch>`` restores the tree, new and binary files too, except for large
    ones and those that may hold secrets.

    Raises:
        GitError: If git does not answer, or there is no commit yet.
    """
    top = Path(os.fsdecode(ask(root, "rev-parse", "--show-toplevel")).removesuffix("\n"))
    objects = os.fsdecode(ask(top, "rev-parse", "--git-path", "objects")).removesuffix("\n")
    escaped = str(top / objects).replace("\\", "\\\\").replace('"', '\\"')
    with TemporaryDirectory() as scratch:
        aside = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{escaped}"',  # in quotes it may hold a colon
        }
        ask(top, "read-tree", "HEAD", variables=aside)
        ask(top, "add", "--update", "--", ".", variables=aside)
        new = ask(top, "ls-files", "--others", "--exclude-standard", "-z", variables=aside).split(b"\0")
        taken, left_out = _sort(top, [os.fsdecode(name) for name in sorted(new) if name])
        if taken:
            given = b"\0".join(map(os.fsencode, taken))
            ask(top, "add", "--pathspec-from-file=-", "--pathspec-file-nul", given=given, variables=aside)
        form = ("--patch", "--binary", "--full-index", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/")
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
        return ask(top, "diff-index", "--cached", *form, *plain, "HEAD", variables=aside), left_out


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
