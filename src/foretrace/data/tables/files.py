"""Which files a path stands for, on this machine or behind a URL, and the arrays that NPY and NPZ files hold.

Shapes: E episodes, T rows, F features.
"""

import glob
import hashlib
import os
import re
import shutil
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foretrace.errors import UserError, is_plain
from foretrace.workspace import atomic_write

TEXTS = tuple(kind + packed for kind in (".csv", ".tsv", ".txt") for packed in ("", ".gz", ".zst"))
ARRAYS = (".npy", ".npz")
FORMATS = (*TEXTS, ".parquet", *ARRAYS)
BROKEN = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, OSError, ValueError, MemoryError, OverflowError,
          SyntaxError, TypeError, tokenize.TokenError)  # fmt: skip
MOST_COLUMNS = 10_000
LARGEST_ARCHIVE = 2**32  # bytes that an NPZ file is unpacked to; it may be a thousandth of that


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
        several = f"files of several formats at {path!r} ({', '.join(f'{n} {k}' for k, n in sorted(kinds.items()))})"
        raise UserError(f"data.path: {several}", hint="Give a pattern, e.g. '*.csv'")
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


def open_arrays(file: Path, scratch: Path | None = None) -> dict[str, npt.NDArray[Any]]:
    """Map arrays (T, F) of a file, by name; one that is alone in its file has none.

    Nothing is unpickled: a pickle may run anything.

    Args:
        file: In NPY or NPZ format.
        scratch: Folder into which an NPZ file is unpacked; an NPY file needs none.

    Raises:
        UserError: If the file cannot be read, or an array is empty or holds something else than numbers.
    """
    try:
        arrays = _unpack(file, scratch) if scratch and file_format(file) == ".npz" else {"": map_array(file)}
        for name, array in arrays.items():
            shapes, most = ("(T, F)", 2) if name else ("(T, F) or (E, T, F)", 3)
            if array.dtype.kind not in "fiu":
                raise ValueError(f"{name and f'{name!r}: '}values of type {array.dtype}")
            if not 1 <= array.ndim <= most or not array.size:
                found = f"{name and f'{name!r}: '}shape {array.shape}"
                raise ValueError(f"{found}, and {shapes} with rows and columns is needed")
    except BROKEN as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file}: no arrays of numbers, saved without pickle: {text}") from error
    if "" in arrays and arrays[""].ndim == 3:
        arrays = {f"episode {e}": episode for e, episode in enumerate(arrays[""])}
    for array in arrays.values():
        check_width(str(file), array[:1].size)
    return {name: array.reshape(len(array), -1) for name, array in arrays.items()}


def map_array(file: Path) -> npt.NDArray[Any]:
    """Return the array of an NPY file, where it lies; changes would stay in memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*created on Python 2")  # and read as well as any other
        return np.lib.format.open_memmap(file, mode="c").view(np.ndarray)


def check_width(where: str, columns: int) -> None:
    """Refuse a table of so many columns that its rows and columns were probably exchanged."""
    if columns > MOST_COLUMNS:
        hint = "Rows are steps in time and columns are features: is the table turned?"
        raise UserError(f"{where}: {columns:,} columns, and at most {MOST_COLUMNS:,} can be read", hint=hint)


def _unpack(file: Path, scratch: Path) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST_ARCHIVE:
            too_large = f"{size:,} bytes in it, and at most {LARGEST_ARCHIVE:,} are unpacked"
            raise ValueError(f"{too_large}: save the arrays as NPY files, one for each recording")
        for name, count in Counter(archive.namelist()).items():
            if not name.endswith(".npy") or not all(map(is_plain, name)):
                raise ValueError(f"{name!r} in it is no array (*.npy) with a plain name")
            if count > 1:
                raise ValueError(f"two arrays called {name.removesuffix('.npy')!r} in it")
        for name in archive.namelist():
            with archive.open(name) as member, tempfile.NamedTemporaryFile(dir=scratch, delete=False) as out:
                shutil.copyfileobj(member, out, 2**20)
            arrays[name.removesuffix(".npy")] = map_array(Path(out.name))
    if not arrays:
        raise ValueError("no array in it")
    return arrays


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
