"""Whether a tracking store can be where its address says, and a database whose folder was moved.

It is seen before MLflow tries: that waits for two minutes for a database which is not there, makes tables in any
SQLite file, and answers with whatever its libraries raise.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from foretrace.errors import UserError
from foretrace.tracking.redaction import redact
from foretrace.tracking.stored import RELATIVE
from foretrace.workspace import atomic_write

DATABASES = ("postgresql", "mysql", "mssql")  # whatever else there is comes from MLflow's plugins
DRIVERS = ("psycopg2", "psycopg", "pymysql", "mysqldb")  # that know `connect_timeout`
CONNECT_S = 5
BUSY_S = 20  # that SQLite waits while others write
HEADER = 100  # bytes of a database at least; of less, SQLite would make an empty one
LONGEST_HOST = 253  # characters; looking for a longer one takes half a minute
CHECKED = 1 << 26  # bytes of a database that is looked through; a larger one takes too long
KEY = "tracking.uri"
HINT = "Set tracking.uri=… or MLFLOW_TRACKING_URI to sqlite:///<file>, http://… or another address of MLflow."


def check_address(uri: str, *, may_be_new: bool) -> None:
    """Check an address, and the database or the folder behind it; a server is asked later.

    Raises:
        UserError: If there can be no store, or what is there is no store.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    try:
        if scheme in ("http", "https"):
            host, _ = urlparse(uri).hostname, urlparse(uri).port
            if not host or len(host) > LONGEST_HOST:
                raise ValueError("without a host")
        elif scheme == "sqlite":
            path = uri.partition("://")[2].removeprefix("/").partition("?")[0]
            if not uri.startswith("sqlite:///") or path in ("", ":memory:"):
                raise ValueError("it names no file")
            if not check_file(Path(path)):
                if not may_be_new:
                    raise UserError(f"{KEY}: {path} has no runs", hint=HINT)
                make_tables(Path(path))
        elif scheme in DATABASES:
            url = make_url(uri)
            waiting = {"connect_timeout": CONNECT_S} if url.get_driver_name() in DRIVERS else {}
            with create_engine(url, connect_args=waiting).connect():
                pass
    except UserError:
        raise
    except (ModuleNotFoundError, SQLAlchemyError, ValueError) as error:
        reason = redact(" ".join(str(getattr(error, "orig", None) or error).split()))
        raise UserError(f"{KEY}: {redact(uri)} is no store that answers ({reason})", hint=HINT) from error


def check_file(database: Path, *, key: str = KEY) -> bool:
    """Return whether there are tables in a database file, which need not be there and which errors name ``key``.

    It is opened for writing: only so SQLite rolls back what a kill within a commit has left.

    Raises:
        UserError: If it is something else, damaged, or locked.
    """
    try:
        if not (size := database.stat().st_size) and database.is_file():
            return False
        if not database.is_file() or size < HEADER:
            raise sqlite3.DatabaseError(f"it has {size} bytes" if database.is_file() else "it is no file")
        uri = f"{database.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as file:
            file.text_factory = lambda content: content.decode(errors="replace")  # anything may stand in it
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            [damage] = file.execute("PRAGMA quick_check(1)").fetchone() if size < CHECKED else ["ok"]
        if damage != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {damage}")
        if tables and (missing := {"alembic_version", "experiments", "runs"} - tables):
            raise sqlite3.DatabaseError(f"it has no table {min(missing)!r}, but {min(tables)!r}")
    except FileNotFoundError:
        return False
    except (OSError, sqlite3.DatabaseError) as error:
        if "locked" in str(error):
            told = f"{key}: {database} is locked by {_holder(database)}"
            raise UserError(told, hint="Wait for it, or end it.") from error
        hint = "Move it away, or restore it from a copy."
        raise UserError(f"{key}: {database} is no database of MLflow ({error})", hint=hint) from error
    return bool(tables)


def _holder(database: Path) -> str:
    """Return who has locked a file, as far as Linux tells."""
    inode, locks = database.stat().st_ino, Path("/proc/locks")
    lines = locks.read_text().splitlines() if locks.exists() else []
    # 1: POSIX  ADVISORY  WRITE 4711 08:01:12345 1073741824 1073742335
    pids = {line.split()[4] for line in lines if line.split()[-3].endswith(f":{inode}")} - {str(os.getpid())}
    return f"process {', '.join(sorted(pids))}" if pids else "another program"


def make_tables(database: Path) -> None:
    """Make a database with MLflow's tables beside its place and move it there, so that a kill leaves none or all.

    What was there before is lost; the file may be a link.
    """
    target = Path(os.path.realpath(database))
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.part*"):
        left.unlink()
    with atomic_write(target) as aside:
        MlflowClient(tracking_uri=f"sqlite:///{aside}").search_experiments()


def relocate(database: Path, artifacts: Path) -> None:
    """Point a checkout's database to the checkout's own artifacts, wherever it was moved or copied.

    MLflow stores absolute paths; in an image, `make_relative` makes them relative. What is not in ``artifacts``, which
    has a folder for each run, is left alone.
    """
    with closing(sqlite3.connect(database, timeout=BUSY_S)) as connection, connection:
        rows = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        moved = [(artifacts.as_uri(), key) for key, location in rows if _is_elsewhere(location, artifacts)]
        if not moved:
            return
        connection.executemany("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", moved)
        runs = connection.execute("SELECT artifact_uri, run_uuid FROM runs").fetchall()
        places = [(artifacts / key / "artifacts", location, key) for location, key in runs]
        here = [one for one in places if one[0].parent.is_dir() and _is_elsewhere(one[1], one[0])]
        found = [(place.as_uri(), key) for place, _, key in here]
        connection.executemany("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", found)


def _is_elsewhere(location: str, place: Path) -> bool:
    """Return whether a stored location is that of a folder in a checkout at another path."""
    path = Path(unquote(urlparse(location).path))
    return path != place and path.parts[-2:] == place.parts[-2:]


def make_relative(database: Path, artifacts: Path) -> None:
    """Locate artifacts by their path within the checkout: in an image, which has ``mlruns`` at a place of its own.

    MLflow takes such locations for relative to the working directory, which is the checkout for `mlflow ui`. Those of
    experiments that were made outside are right there, and stay.
    """
    with closing(sqlite3.connect(database, timeout=BUSY_S)) as connection, connection:
        change = "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?"
        connection.execute(change, (RELATIVE, artifacts.as_uri()))
