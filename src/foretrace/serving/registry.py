"""Models in MLflow: kept with their run, registered under a name."""

import os
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from foretrace.errors import UserError
from foretrace.serving.loading import FILE, MODEL
from foretrace.serving.model_file import save_model
from foretrace.serving.predictor import Predictor
from foretrace.tracking import store
from foretrace.tracking.stored import StoredRun
from foretrace.workspace import Workspace

CODE = Path(__file__).with_name("mlflow_model.py")
CHAMPION = "champion"
# What it takes to run it, beside foretrace itself, which is in no registry: it has to be installed.
LIBRARIES = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")
EXAMPLE_ROWS = 3
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # for the two files that are copied


def write_mlflow_model(folder: Path, predictor: Predictor) -> None:
    """Write an MLflow model whose code is one file of ours and whose weights are the model file: no pickle.

    The folder is made; what it held before is replaced at the end.
    """
    card, model = predictor.card, predictor.model
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in card.columns]),
        outputs=Schema([ColSpec("float", name) for name in card.feature_names]),
        params=ParamSchema([ParamSpec("horizon", "long", 1), ParamSpec("intervals", "double", [], (-1,))]),
    )
    means = [scaling.mean.cpu().numpy() for scaling in (model.scaling, model.covariate_scaling)]
    values = np.tile(np.concatenate(means).astype(np.float64), (EXAMPLE_ROWS, 1))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".model-") as aside:
        save_model(Path(aside) / FILE, card, model, predictor.calibration)
        mlflow.pyfunc.save_model(
            Path(aside) / MODEL,
            python_model=str(CODE),
            artifacts={"model": str(Path(aside) / FILE)},
            signature=signature,
            input_example=pd.DataFrame(values, columns=list(card.columns)),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in LIBRARIES],
        )
        shutil.rmtree(folder, ignore_errors=True)
        (Path(aside) / MODEL).replace(folder)


def register(run: StoredRun, predictor: Predictor, *, name: str) -> int:
    """Give a run's model a name in the registry, as its next version and its champion; return the version.

    Raises:
        UserError: If the registry refuses the name.
    """
    client = run.client
    try:
        if not run.has_artifact(f"{MODEL}/{CODE.name}"):  # a run that was cut short, or one of version 0.1.0
            with TemporaryDirectory() as folder:
                write_mlflow_model(Path(folder) / MODEL, predictor)
                client.log_artifacts(run.id, str(Path(folder) / MODEL), MODEL)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{client.get_run(run.id).info.artifact_uri}/{MODEL}"
        version = client.create_model_version(name, source, run_id=run.id)
        client.set_registered_model_alias(name, CHAMPION, version.version)
    except MlflowException as error:
        raise UserError(f"register_as: {name!r} is refused ({str(error).splitlines()[0]})") from error
    return int(version.version)


def registered_run(address: str, workspace: Workspace) -> str:
    """Return the id of the run whose model is ``models:/<name>@<alias>`` or ``models:/<name>/<version>``.

    Raises:
        UserError: If there is none.
    """
    client = store.open_store(workspace)
    name, _, alias = address.removeprefix("models:/").partition("@")
    name, _, version = name.partition("/")
    try:
        if alias:
            return str(client.get_model_version_by_alias(name, alias).run_id)
        return str(client.get_model_version(name, version).run_id)
    except MlflowException as error:
        problem = f"model: no {address} in the registry ({str(error).splitlines()[0]})"
        raise UserError(problem, hint="Write models:/<name>@<alias> or models:/<name>/<version>.") from error
