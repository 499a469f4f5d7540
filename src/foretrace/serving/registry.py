"""Models in MLflow: found by their run, kept with it, registered under a name."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from foretrace.errors import InputError
from foretrace.model.next_step import NextStepModel
from foretrace.serving.loading import FILE, MODEL
from foretrace.serving.model_file import ModelCard, save_model
from foretrace.tracking import store
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.writer import local_path
from foretrace.workspace import Workspace

CODE = Path(__file__).with_name("mlflow_model.py")
CHAMPION = "champion"
# What it takes to run it, beside foretrace itself, which is in no registry: it has to be installed.
LIBRARIES = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")
EXAMPLE_ROWS = 3


def find_trained(run_id: str, *, uri: str | None, workspace: Workspace, key: str = "run") -> TrackedRun:
    """The run, or the best child of a sweep's parent.

    Raises:
        InputError: If there is no such run.
    """
    client, found = store.find_run(run_id, workspace=workspace, uri=uri, key=key)
    if best := found.data.tags.get("best_child"):
        _, found = store.find_run(best, workspace=workspace, uri=uri, key=f"{key}, best_child of {run_id}")
    return TrackedRun(client, found, staging=workspace.staging, ended=True)


def write_mlflow_model(folder: Path, card: ModelCard, model: NextStepModel) -> None:
    """Writes an MLflow model whose code is a file of ours and whose weights are the model file: nothing is pickled.

    Args:
        folder: To be made; what it held before is replaced at the end.
        card: What the model's numbers mean.
        model: On any device.
    """
    columns = card.feature_names + card.covariate_names
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in columns]),
        outputs=Schema([ColSpec("float", name) for name in card.feature_names]),
        params=ParamSchema([ParamSpec("horizon", "long", 1)]),
    )
    means = [scaling.mean.cpu().numpy() for scaling in (model.scaling, model.covariate_scaling)]
    example = pd.DataFrame(
        np.tile(np.concatenate(means).astype(np.float64), (EXAMPLE_ROWS, 1)), columns=columns
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".model-") as aside, _quietly():
        save_model(Path(aside) / FILE, card, model)
        mlflow.pyfunc.save_model(
            Path(aside) / MODEL,
            python_model=str(CODE),
            artifacts={"model": str(Path(aside) / FILE)},
            signature=signature,
            input_example=example,
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in LIBRARIES],
        )
        shutil.rmtree(folder, ignore_errors=True)
        (Path(aside) / MODEL).replace(folder)


def keep_model(tracked: TrackedRun, card: ModelCard, model: NextStepModel) -> None:
    """Writes the model among a run's artifacts."""
    write_mlflow_model(tracked.folder / MODEL, card.model_copy(update={"run_id": tracked.id}), model)


def register(tracked: TrackedRun, card: ModelCard, model: NextStepModel, *, name: str) -> int:
    """Gives a run's model a name in the registry, as its next version and its champion; returns the version.

    Raises:
        InputError: If the registry refuses the name.
    """
    client = tracked.client
    try:
        if not tracked.has_artifact(f"{MODEL}/MLmodel"):
            with TemporaryDirectory() as folder:  # a run that was cut, or one of an older version
                write_mlflow_model(Path(folder) / MODEL, card, model)
                client.log_artifacts(tracked.id, str(Path(folder) / MODEL), MODEL)
        _make_name(client, name)
        source = f"{client.get_run(tracked.id).info.artifact_uri}/{MODEL}"
        version = client.create_model_version(name, source, run_id=tracked.id)
        client.set_registered_model_alias(name, CHAMPION, version.version)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        expected = "a name and a store that the registry takes"
        raise InputError("register_as", expected=expected, received=reason) from error
    return int(version.version)


def download(uri: str, folder: Path) -> Path:
    """Copies a registered model to a folder.

    Args:
        uri: ``models:/<name>@<alias>`` or ``models:/<name>/<version>``.
        folder: That exists.

    Raises:
        InputError: If there is none.
    """
    tracking = os.environ.get("MLFLOW_TRACKING_URI")
    client = store.open_store(workspace=Workspace.default(), uri=tracking)
    name, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, version = name.partition("/")
    try:
        if alias:
            version = client.get_model_version_by_alias(name, alias).version
        source = client.get_model_version_download_uri(name, str(version))
        source = str(local_path(source, mlruns=Workspace.default().mlruns) or source)
        with _quietly():
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=str(folder), tracking_uri=tracking
            )
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        expected = "models:/<name>@<alias> or models:/<name>/<version> in the registry"
        raise InputError("model", expected=expected, received=f"{uri} ({reason})") from error
    return Path(found)


def _make_name(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def _quietly() -> Iterator[None]:
    """Without a progress bar for the files that are copied."""
    bar = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    before = os.environ.get(bar)
    os.environ[bar] = "false"
    try:
        yield
    finally:
        os.environ.pop(bar) if before is None else os.environ.update({bar: before})
