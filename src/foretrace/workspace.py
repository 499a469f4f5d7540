"""Where runs, artifacts and caches lie on this machine, and files that are either whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foretrace.errors import UserError

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1]  # the folder that holds src/ and conf/, where foretrace runs from its checkout
# An installed package has its own.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else CHECKOUT / "conf"


@dataclass(frozen=True)
class Workspace:
    """A folder with its tracking database, artifacts, undelivered records and caches.

    Args:
        root: The folder.
        uri: Of a tracking server, or of a database elsewhere, that holds the runs; None: the folder's own.

    >>> Workspace(Path("/project")).artifacts.as_posix()
    '/project/mlruns/artifacts'
    """

    root: Path
    uri: str | None = None

    @classmethod
    def default(cls) -> "Workspace":
        """The folder named by ``FORETRACE_HOME``, else the checkout, else the working directory.

        Runs are where ``MLFLOW_TRACKING_URI`` says, if it does.
        """
        root = CHECKOUT if (CHECKOUT / "src" / "foretrace").is_dir() else Path.cwd()
        if home := os.environ.get("FORETRACE_HOME"):
            root = Path(home).expanduser().resolve()
        return cls(root, os.environ.get("MLFLOW_TRACKING_URI"))

    @property
    def mlruns(self) -> Path:
        """Everything that a run leaves."""
        return self.root / "mlruns"

    @property
    def database(self) -> Path:
        """The tracking database; where a bare ``mlflow ui`` looks for it."""
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """Files of the runs, a folder for each."""
        return self.mlruns / "artifacts"

    @property
    def staging(self) -> Path:
        """Records that the tracking store has not received, a folder for each run."""
        return self.mlruns / "staging"

    @property
    def cache(self) -> Path:
        """Data that can be made again."""
        return self.root / ".cache"


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Give the path of a file beside the target that takes the target's name at the end of the block.

    If the block raises, there is nothing new, and what was there before is still there.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, atomic_write(Path(folder) / "a.txt") as aside:
    ...     _ = aside.write_text("all of it")
    """
    aside = target.with_name(f".{target.name}.part")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a new name is safe from a power cut once its folder is on the disk
    finally:
        os.close(folder)


def check_target(output: str, *, overwrite: bool, endings: tuple[str, ...] = ()) -> Path:
    """Return the path of a file that the user asked for, which can be written.

    Raises:
        UserError: If it has another ending, exists and is not to be replaced, or there is no such folder.
    """
    target = Path(output).expanduser()
    if endings and target.suffix not in endings:
        raise UserError(f"output: must end in {' or '.join(endings)}, got {output!r}")
    if not target.parent.is_dir():
        raise UserError(f"output: there is no folder {str(target.parent)!r}")
    if target.is_dir():
        raise UserError(f"output: {str(target)!r} is a folder")
    if target.exists() and not overwrite:
        raise UserError(f"output: {str(target)!r} exists", hint="Set overwrite=true to replace it.")
    return target
