"""The tracking store, in which runs are created and found: a database in the checkout, or a server."""

import json
import os
import re
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from foretrace.errors import UserError
from foretrace.tracking.database import check_address, check_file, make_relative, make_tables, relocate
from foretrace.tracking.recovery import Process, recover
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.stored import store_access
from foretrace.workspace import Workspace

NO_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
RUN_ID = re.compile(r"\w[\w-]{0,255}", re.ASCII)  # as MLflow has them
# The table of runs with useful columns, as a view that MLflow opens with viewStateShareKey=foretrace.
VIEW_TAG = "mlflow.sharedViewState.foretrace"
COLUMNS = (*(f"metrics.`{name}`" for name in ("val/mse", "test/mse", "skill")), "params.`model.hidden_sizes`")
VIEW = json.dumps({"selectedColumns": [*COLUMNS, "attributes.`Duration`"], "runsHiddenMode": "FIRST_10_RUNS"})
MOUNTED = "FORETRACE_MOUNTED"  # set in an image, whose mlruns has another path outside


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
            found = _experiment_id(client, _artifact_location(workspace), experiment)
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


def _artifact_location(workspace: Workspace) -> str | None:
    """Return where a new experiment keeps its artifacts: beside a database file; a server says that itself."""
    if workspace.uri is None:
        return workspace.artifacts.as_uri()
    if not workspace.uri.startswith("sqlite:"):
        return None
    return (Path(workspace.uri.removeprefix("sqlite:///")).resolve().parent / "artifacts").as_uri()


def _experiment_id(client: MlflowClient, artifacts: str | None, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts, tags={VIEW_TAG: VIEW})
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        hint = f"`mlflow experiments restore -x {found.experiment_id}`, or choose another name."
        raise UserError(f"tracking.experiment: {name} was deleted", hint=hint)
    return str(found.experiment_id)
