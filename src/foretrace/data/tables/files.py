"""Which files a path stands for, on this machine or behind a URL."""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from foretrace.errors import UserError, is_plain
from foretrace.workspace import atomic_write

TEXTS = tuple(kind + packed for kind in (".csv", ".tsv", ".txt") for packed in ("", ".gz", ".zst"))
ARRAYS = (".npy", ".npz")
FORMATS = (*TEXTS, ".parquet", *ARRAYS)


def find_files(path: str, *, cache: Path) -> list[Path]:
    """Find the recordings that a file's name, a folder, a pattern or a URL stands for, in natural order.

    Hidden files and those of other formats are passed over, unless they are named. A file that is found under
    several names, by links, is taken once: else it might be in training and in test.

    Args:
        path: As in ``data.path``; ``**`` stands for all folders below; those named ``key=value`` need none.
        cache: Where files behind a URL are kept.

    Raises:
        UserError: If there are none, or they differ in format, or one is no file or has a name not in UTF-8.
    """
    if "://" in path:
        return _fetch(path, cache / "remote")
    try:
        named = Path(path).expanduser()
        below = f"{glob.escape(str(named))}/"
        patterns = [below + "*", below + "*=*/**"] if named.is_dir() else [str(named)]
        found = [named] if named.is_file() else next(filter(None, map(_matches, patterns)), [])
        links_last = sorted(found, key=lambda file: (-len(str(file)), str(file)))
        found = sorted({file.resolve(): file for file in links_last}.values(), key=_natural)
    except (OSError, ValueError, RuntimeError, re.error) as error:
        hint = "Give a file, a folder or a pattern"
        raise UserError(f"data.path: {str(error)[:100]}", hint=hint) from error
    if not found:
        hint = (
            f"Give a file, a folder or a pattern ({', '.join(FORMATS)}); relative paths start at {Path.cwd()}"
        )
        raise UserError(f"data.path: no recordings at {path!r}", hint=hint)
    for file in found:
        if not file.is_file():
            raise UserError(f"{file}: not a file")
        if not all(map(is_plain, str(file))):
            raise UserError(f"{str(file)!r}: a name that is not plain UTF-8", hint="Rename the file")
    kinds = Counter("text" if file_format(file) in TEXTS else file_format(file) for file in found)
    if len(kinds) > 1:
        kept = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        hint = "Give a pattern, e.g. '*.csv'"
        raise UserError(f"data.path: files of several formats at {path!r} ({kept})", hint=hint)
    return found


def file_format(file: Path) -> str:
    """Return the suffix in lower case; of a file with another one it is that of text.

    >>> file_format(Path("a/b.CSV.gz")), file_format(Path("run.1.NPY")), file_format(Path("log.dat"))
    ('.csv.gz', '.npy', '.txt')
    """
    return next((suffix for suffix in FORMATS if file.name.lower().endswith(suffix)), ".txt")


def stems(files: Sequence[Path]) -> list[str]:
    """Return the files' names without suffix, with as much of their path as makes them unique."""
    names = [re.sub(r"(?i)(\.\w+)?\.(gz|zst)$|\.\w+$", "", file.name) for file in files]
    if len(set(names)) < len(names):
        common = os.path.commonpath([file.parent for file in files])
        names = [file.relative_to(common).as_posix() for file in files]
    return names


def partitions(file: Path) -> dict[str, str]:
    """Return what folders named ``key=value`` say of the files below them.

    >>> partitions(Path("data/site=north/part-0.parquet"))
    {'site': 'north'}
    """
    parts = (part.partition("=") for part in file.parent.parts)
    return {key: value for key, equals, value in parts if equals and key and value}


def _matches(pattern: str) -> list[Path]:
    # Path.glob would take no absolute pattern and would find hidden files.
    names = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    found = [name for name in names if name.name.lower().endswith(FORMATS) and not name.is_dir()]
    others = [file for file in found if not file_format(file).startswith(".txt")]
    return others or found  # a README.txt beside recordings is none


def _natural(file: Path) -> list[tuple[int, int | str]]:
    """``run_9`` before ``run_10``."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d{1,300})", str(file))]


def _fetch(url: str, cache: Path) -> list[Path]:
    """Copy what is behind a URL into the cache, unless it lies there already."""
    import fsspec

    try:
        system, path = fsspec.url_to_fs(url)
        pattern = f"{path.rstrip('/')}/**" if system.isdir(path) else path
        found = [name for name in system.glob(pattern) if name.lower().endswith(FORMATS)]
    except Exception as error:  # each file system raises errors of its own, e.g. about credentials
        hint = "pip install 'foretrace[remote]'" if isinstance(error, ImportError) else ""
        raise UserError(f"data.path: {url!r} cannot be reached: {error}", hint=hint) from error
    if not found:
        raise UserError(f"data.path: no recordings at {url!r}")
    files = []
    for name in found:
        key = hashlib.sha256(f"{url}\0{name}\0{system.ukey(name)}".encode()).hexdigest()[:16]
        local = cache / key / Path(name).name
        if not local.is_file():
            local.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(local) as aside:
                system.get_file(name, str(aside))
        files.append(local)
    return sorted(files, key=lambda file: _natural(Path(file.name)))
