"""Where runs are recorded: a database in the checkout, or a tracking server."""

from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from foretrace.errors import InputError


def create_run(
    *, root: Path, uri: str | None, experiment: str, name: str, tags: dict[str, str]
) -> tuple[MlflowClient, Run]:
    """Begins a run, and makes the database and the experiment first where there are none.

    Args:
        root: The checkout; its ``mlruns/`` holds database and artifacts unless ``uri`` says otherwise.
        uri: A tracking server or database, or None for the checkout's own.
        experiment: The experiment's name.
        name: The run's name.
        tags: Tags of the run from its beginning.

    Raises:
        InputError: If the store cannot be reached or the experiment was deleted.
    """
    if uri is not None and not uri.startswith("sqlite:"):  # a server says itself where artifacts go
        return _create(uri, None, experiment, name, tags)
    # mlflow.db in the root is a link into mlruns/: it is where a bare `mlflow ui` looks.
    uri, folder = (f"sqlite:///{root / 'mlflow.db'}", root / "mlruns") if uri is None else (uri, _beside(uri))
    folder.mkdir(parents=True, exist_ok=True)
    # Several first runs at once would make the same tables at once: 3 of 4 crashed (hydraflow#245).
    with FileLock(folder / ".lock"):
        return _create(uri, (folder / "artifacts").as_uri(), experiment, name, tags)


def find_run(run_id: str, *, root: Path, uri: str | None) -> tuple[MlflowClient, Run]:
    """Looks a run up.

    Raises:
        InputError: If there is no such run, or no store.
    """
    database = root / "mlflow.db"
    if uri is None and not database.exists():
        raise InputError(
            "run", expected="a run in this checkout", received="no run at all", remedy="Train first."
        )
    client = MlflowClient(tracking_uri=uri or f"sqlite:///{database}")
    try:
        return client, client.get_run(run_id)
    except MlflowException as error:
        remedy = "`mlflow ui` shows the ids of all runs."
        raise InputError("run", expected="the id of a run", received=run_id, remedy=remedy) from error


def _create(
    uri: str, artifacts: str | None, experiment: str, name: str, tags: dict[str, str]
) -> tuple[MlflowClient, Run]:
    try:
        client = MlflowClient(tracking_uri=uri)
        run = client.create_run(_experiment_id(client, artifacts, experiment), run_name=name, tags=tags)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise InputError("tracking.uri", expected="a tracking store that answers", received=reason) from error
    return client, run


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
