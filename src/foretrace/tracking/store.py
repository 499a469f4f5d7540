"""The tracking store, in which runs are created and found: a database in the checkout, or a server.

What can be wrong with an address or a file is seen before MLflow tries: that waits for two minutes for a database
which is not there, makes tables in any SQLite file, and answers with whatever its libraries raise.
"""

import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from foretrace.errors import UserError
from foretrace.tracking.recovery import Process, recover
from foretrace.tracking.redaction import redact
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.stored import RELATIVE, store_access
from foretrace.workspace import Workspace, atomic_write

NO_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
RUN_ID = re.compile(r"\w[\w-]{0,255}", re.ASCII)  # as MLflow has them
# The table of runs with useful columns, as a view that MLflow opens with viewStateShareKey=foretrace.
VIEW_TAG = "mlflow.sharedViewState.foretrace"
COLUMNS = (*(f"metrics.`{name}`" for name in ("val/mse", "test/mse", "skill")), "params.`model.hidden_sizes`")
VIEW = json.dumps({"selectedColumns": [*COLUMNS, "attributes.`Duration`"], "runsHiddenMode": "FIRST_10_RUNS"})
MOUNTED = "FORETRACE_MOUNTED"  # set in an image, whose mlruns has another path outside
DATABASES = ("postgresql", "mysql", "mssql")  # whatever else there is comes from MLflow's plugins
DRIVERS = ("psycopg2", "psycopg", "pymysql", "mysqldb")  # that know `connect_timeout`
CONNECT_S = 5
BUSY_S = 20  # that SQLite waits while others write
HEADER = 100  # bytes of a database at least; of less, SQLite would make an empty one
LONGEST_HOST = 253  # characters; looking for a longer one takes half a minute
CHECKED = 1 << 26  # bytes of a database that is looked through; a larger one takes too long
KEY = "tracking.uri"
HINT = "Set tracking.uri=… or MLFLOW_TRACKING_URI to sqlite:///<file>, http://… or another address of MLflow."


def create_run(workspace: Workspace, *, experiment: str, name: str, tags: dict[str, str]) -> TrackedRun:
    """Create a run, and the database and the experiment first where there are none.

    The store is that at the workspace's ``uri``, or its own.

    Raises:
        UserError: If the store cannot be reached or written, or the experiment was deleted.
    """
    with store_access():
        workspace.mlruns.mkdir(parents=True, exist_ok=True)
        # Several first runs at once would make the same tables at once: 3 of 4 crashed (hydraflow#245).
        with FileLock(workspace.mlruns / ".lock"):
            client = open_store(workspace, may_be_new=True)
            found = _experiment_id(client, workspace, experiment)
            if workspace.uri is None and MOUNTED in os.environ:
                make_relative(workspace.database, workspace.artifacts)
            recover(client, experiments=[found], staging=workspace.staging)
            run = client.create_run(found, run_name=name, tags=tags | Process.this().tags())
    if not RUN_ID.fullmatch(run.info.run_id):
        raise UserError(f"tracking.uri: the store gives a run without an id: {run.info.run_id!r}")
    return TrackedRun(client, run, staging=workspace.staging)


def open_store(workspace: Workspace, *, may_be_new: bool = False) -> MlflowClient:
    """Return a client of the store at the workspace's ``uri``, or of its own database, made if it ``may_be_new``.

    A workspace's own database is pointed to the workspace's own artifacts, should it have been moved. Not by an
    image: others look from outside, where they are at another place.

    Raises:
        UserError: If there can be no store at the address, or what is there is no store.
    """
    database, uri = workspace.database, workspace.uri
    if uri is not None:
        check_address(uri, may_be_new=may_be_new)
    elif check_file(database, key="mlflow.db"):
        if MOUNTED not in os.environ:
            relocate(database, workspace.artifacts)
    elif may_be_new:
        make_tables(database)
    else:
        raise UserError(f"there is no run in {workspace.root} yet", hint="Train first: python src/train.py")
    # mlflow.db in the root is a link into mlruns/: it is where a bare `mlflow ui` looks.
    with store_access():
        return MlflowClient(tracking_uri=uri or f"sqlite:///{database}")


def find_run(run_id: str, workspace: Workspace, *, key: str = "run", ended: bool = False) -> TrackedRun:
    """Return a run by its id, which the setting ``key`` names; see `open_store` for where, `TrackedRun` for ``ended``.

    Raises:
        UserError: If there is no such run, or no store.
    """
    no_such_run = UserError(f"{key}: no run has the id {run_id!r}", hint="python src/runs.py lists them.")
    if not RUN_ID.fullmatch(run_id):  # it becomes the name of a folder, and part of an address
        raise no_such_run
    client = open_store(workspace)
    with store_access():
        try:
            found = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in NO_RUN:
                raise no_such_run from error
            raise
    if found.info.run_id != run_id:
        raise UserError(f"{key}: asked for the run {run_id}, the store gives another one")
    if found.info.lifecycle_stage == LifecycleStage.DELETED:
        hint = f"`mlflow runs restore --run-id {run_id}` brings it back."
        raise UserError(f"{key}: the run {run_id} was deleted", hint=hint)
    return TrackedRun(client, found, staging=workspace.staging, ended=ended)


def latest_runs(
    workspace: Workspace, condition: str = "", *, limit: int = 1000
) -> tuple[MlflowClient, list[Run]]:
    """Return the latest runs that meet a condition in MLflow's language, newest first, and a client of their store.

    Raises:
        UserError: If there is no store, or it does not answer.
    """
    client = open_store(workspace)
    with store_access():
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        order = ["attributes.start_time DESC"]
        return client, list(client.search_runs(experiments, condition, max_results=limit, order_by=order))


def _experiment_id(client: MlflowClient, workspace: Workspace, name: str) -> str:
    """Return the experiment's id; a new one keeps artifacts beside a database file, or where its server says."""
    found, uri = client.get_experiment_by_name(name), workspace.uri
    if found is None:
        folder = workspace.artifacts
        if uri and uri.startswith("sqlite:"):
            folder = Path(uri.removeprefix("sqlite:///")).resolve().parent / "artifacts"
        location = folder.as_uri() if not uri or uri.startswith("sqlite:") else None
        try:
            return client.create_experiment(name, artifact_location=location, tags={VIEW_TAG: VIEW})
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        hint = f"`mlflow experiments restore -x {found.experiment_id}`, or choose another name."
        raise UserError(f"tracking.experiment: {name} was deleted", hint=hint)
    return str(found.experiment_id)


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
