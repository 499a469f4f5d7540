"""Whether a tracking store can be where its address says.

It is seen before MLflow tries: that waits for two minutes for a database which is not there, makes tables in any
SQLite file, and answers with whatever its libraries raise.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.exc import NoSuchModuleError as NoSuchDialectError

from foretrace.errors import InputError
from foretrace.tracking.redaction import redact

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # whatever else there is comes from MLflow's plugins
DRIVERS = ("psycopg2", "psycopg", "pymysql", "mysqldb")  # that know `connect_timeout`
A_STORE = "sqlite:///<file>, postgresql://…, http://… or another store of MLflow"
CONNECT_S = 5
BUSY_S = 20  # that SQLite waits while others write
HEADER = 100  # bytes of one at least; of less, SQLite would make an empty one
TABLES = ("experiments", "runs")
LONGEST_HOST = 253  # characters; looking for a longer one takes half a minute
CHECKED = 1 << 26  # bytes of a database that is looked through; a larger one takes too long
KEY = "tracking.uri"
REMEDY = "Set tracking.uri=… or MLFLOW_TRACKING_URI."


def check_address(uri: str, *, may_be_new: bool) -> None:
    """Looks at an address, and at the database or the folder behind it; a server is asked later.

    Args:
        uri: As the user gave it.
        may_be_new: Whether a database file may be made.

    Raises:
        InputError: If there can be no store, or what is there is no store.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in SERVERS:
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri, may_be_new=may_be_new)
    elif scheme in DATABASES:
        _check_database(uri)


def check_file(database: Path, *, key: str = KEY) -> bool:
    """Whether there are tables in a database file.

    Args:
        database: The file, which need not be there.
        key: How errors name it.

    Raises:
        InputError: If it is something else, damaged, or locked.
    """
    remedy = "Move it away, or restore it from a copy."
    expected = {"expected": f"a database of MLflow in {database}", "remedy": remedy}
    try:
        size = database.stat().st_size
        if not database.is_file():
            raise InputError(key, received="a folder or a device", **expected)
        if not size:
            return False
        if size < HEADER:
            raise InputError(key, received=f"{size} bytes", **expected)
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
        ) as file:
            file.text_factory = _text
            tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            [damage] = file.execute("PRAGMA quick_check(1)").fetchone() if size < CHECKED else ["ok"]
    except FileNotFoundError:
        return False
    except (OSError, sqlite3.DatabaseError) as error:
        raise InputError(key, received=str(error), **expected) from error
    if damage != "ok":
        raise InputError(key, received=f"a damaged one: {damage}", **expected)
    if tables and "alembic_version" not in tables:
        raise InputError(key, received=f"another program's, with the table {tables[0]!r}", **expected)
    if tables and (missing := [name for name in TABLES if name not in tables]):
        raise InputError(key, received=f"one without the table {missing[0]!r}", **expected)
    return bool(tables)


def _text(content: bytes) -> str:
    """Of a database in which anything may stand."""
    return content.decode(errors="replace")


def _check_server(uri: str) -> None:
    try:
        parsed = urlparse(uri)
        host, _ = parsed.hostname, parsed.port
    except ValueError as error:
        raise InputError(KEY, expected=A_STORE, received=f"{redact(uri)} ({error})", remedy=REMEDY) from error
    if not host or len(host) > LONGEST_HOST:
        raise InputError(KEY, expected=A_STORE, received=f"{redact(uri)}, without a host", remedy=REMEDY)


def _check_sqlite(uri: str, *, may_be_new: bool) -> None:
    path = uri.partition("://")[2].removeprefix("/").partition("?")[0]
    if not uri.startswith("sqlite:///") or path in ("", ":memory:"):
        raise InputError(KEY, expected="sqlite:///<path of a file>", received=uri, remedy=REMEDY)
    if not check_file(Path(path)) and not may_be_new:
        raise InputError(KEY, expected="a database with runs", received=f"none in {path}", remedy=REMEDY)
    folder = Path(os.path.realpath(path)).parent
    if folder.exists() and not os.access(folder, os.W_OK) and may_be_new:
        raise InputError(KEY, expected="a folder that may be written", received=str(folder), remedy=REMEDY)


def _check_database(uri: str) -> None:
    """Connects once."""
    expected = {"expected": "a database that answers", "remedy": REMEDY}
    try:
        url = make_url(uri)
        waiting = {"connect_timeout": CONNECT_S} if url.get_driver_name() in DRIVERS else {}
        with create_engine(url, connect_args=waiting).connect():
            pass
    except ModuleNotFoundError as error:
        received = f"no driver for it: {error.name} is not installed"
        raise InputError(KEY, received=received, **expected) from error
    except (ArgumentError, NoSuchDialectError, ValueError) as error:
        raise InputError(KEY, expected=A_STORE, received=f"{redact(uri)} ({error})", remedy=REMEDY) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error)
        raise InputError(KEY, received=f"{redact(uri)} ({reason})", **expected) from error
