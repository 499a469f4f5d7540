"""Where runs are recorded: a database in the checkout, or a tracking server."""

import errno
import os
import re
from pathlib import Path

from filelock import FileLock
from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from foretrace.errors import InputError
from foretrace.tracking.address import check_address, check_file
from foretrace.tracking.process import Process
from foretrace.tracking.recovery import mend, relocate_artifacts, unfix_artifacts
from foretrace.tracking.redaction import redact
from foretrace.workspace import Workspace

NO_ANSWER = (MlflowException, ParseError)  # the latter of a server that is none of MLflow's
NO_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
RUN_ID = re.compile(r"\w[\w-]{0,255}", re.ASCII)  # as MLflow has them
MOUNTED = "FORETRACE_MOUNTED"  # set in an image, whose mlruns has another path outside


def create_run(
    *, workspace: Workspace, uri: str | None, experiment: str, name: str, tags: dict[str, str]
) -> tuple[MlflowClient, Run]:
    """Begins a run, and makes the database and the experiment first where there are none.

    Args:
        workspace: Holds database and artifacts unless ``uri`` says otherwise.
        uri: A tracking server or database, or None for the checkout's own.
        experiment: The experiment's name.
        name: The run's name.
        tags: Tags of the run from its beginning.

    Raises:
        InputError: If the store cannot be reached or written, or the experiment was deleted.
    """
    try:
        workspace.mlruns.mkdir(parents=True, exist_ok=True)
        # Several first runs at once would make the same tables at once: 3 of 4 crashed (hydraflow#245).
        with FileLock(workspace.mlruns / ".lock"):
            return _create_run(workspace, uri, experiment, name, tags)
    except NO_ANSWER as error:
        raise silent(error) from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        remedy = (
            'Give the folder to that user; or run as its owner, in a container by --user "$(id -u):$(id -g)".'
        )
        raise InputError(
            "mlruns",
            expected=f"a folder that user {os.getuid()} may write",
            received=f"{error.strerror} ({error.filename})",
            remedy=remedy,
        ) from error


def _create_run(
    workspace: Workspace, uri: str | None, experiment: str, name: str, tags: dict[str, str]
) -> tuple[MlflowClient, Run]:
    client = open_store(workspace=workspace, uri=uri, may_be_new=True)
    found = _experiment_id(client, _artifacts(workspace, uri), experiment)
    if uri is None and MOUNTED in os.environ:
        unfix_artifacts(workspace.database, workspace.artifacts)
    mend(client, experiments=[found], staging=workspace.staging)
    run = client.create_run(found, run_name=name, tags=tags | Process.this().tags())
    if not RUN_ID.fullmatch(run.info.run_id):
        raise MlflowException(f"a run without an id: {run.info.run_id!r}")
    return client, run


def open_store(*, workspace: Workspace, uri: str | None, may_be_new: bool = False) -> MlflowClient:
    """The store of runs, which need not have any yet.

    A checkout's own database is pointed to the checkout's own artifacts, should it have been moved. Not by an image:
    others look from outside, where they are at another place.

    Args:
        workspace: Holds the database unless ``uri`` says otherwise.
        uri: A tracking server or database, or None for the checkout's own.
        may_be_new: Whether a database file may be made.

    Raises:
        InputError: If there can be no store at the address, or what is there is no store.
    """
    database = workspace.database
    if uri is None:
        check_file(database, key="mlflow.db")
    else:
        check_address(uri, may_be_new=may_be_new)
    if uri is None and database.exists() and MOUNTED not in os.environ:
        relocate_artifacts(database, workspace.artifacts)
    # With more attempts the client itself would wait for minutes, unheard; what could not be told waits on disk.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    # Where to look is said by us: the client would print the address with the password in it.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # mlflow.db in the root is a link into mlruns/: it is where a bare `mlflow ui` looks.
    try:
        return MlflowClient(tracking_uri=uri or f"sqlite:///{database}")
    except MlflowException as error:
        raise silent(error) from error


def silent(error: Exception, *, key: str = "tracking.uri") -> InputError:
    """Says of a store why it is none, without passwords."""
    reason = redact(" ".join(str(error).split()))
    return InputError(key, expected="a tracking store that answers", received=reason)


def find_run(
    run_id: str, *, workspace: Workspace, uri: str | None, key: str = "run"
) -> tuple[MlflowClient, Run]:
    """Looks a run up.

    Args:
        run_id: Its id.
        workspace: Holds the database unless ``uri`` says otherwise.
        uri: A tracking server or database, or None for the checkout's own.
        key: The setting that names it.

    Raises:
        InputError: If there is no such run, or no store.
    """
    database = workspace.database
    if uri is None and not database.exists():
        raise InputError(
            key, expected="a run in this checkout", received="no run at all", remedy="Train first."
        )
    remedy = "`mlflow ui` shows the ids of all runs."
    if not RUN_ID.fullmatch(run_id):  # it becomes the name of a folder, and part of an address
        raise InputError(key, expected="the id of a run", received=run_id, remedy=remedy)
    client = open_store(workspace=workspace, uri=uri)
    try:
        found = client.get_run(run_id)
    except NO_ANSWER as error:
        if getattr(error, "error_code", None) not in NO_RUN:
            raise silent(error) from error
        raise InputError(key, expected="the id of a run", received=run_id, remedy=remedy) from error
    if found.info.run_id != run_id:
        raise InputError(
            key, expected="the id of a run", received=f"{run_id}, for which the store gives another"
        )
    if found.info.lifecycle_stage == LifecycleStage.DELETED:
        remedy = f"`mlflow runs restore --run-id {run_id}` brings it back."
        raise InputError(key, expected="a run", received=f"{run_id}, which was deleted", remedy=remedy)
    return client, found


def _artifacts(workspace: Workspace, uri: str | None) -> str | None:
    """Where a new experiment keeps its artifacts; a server says that itself."""
    if uri is None:
        return workspace.artifacts.as_uri()
    return (_beside(uri) / "artifacts").as_uri() if uri.startswith("sqlite:") else None


def _beside(uri: str) -> Path:
    """The folder of a database file, where its artifacts go too; MLflow's own choice is the working directory."""
    return Path(uri.removeprefix("sqlite:///")).resolve().parent


def _experiment_id(client: MlflowClient, artifacts: str | None, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            "tracking.experiment",
            expected="an active experiment",
            received=f"{name}, which was deleted",
            remedy=f"`mlflow experiments restore -x {found.experiment_id}`, or choose another name.",
        )
    return str(found.experiment_id)
