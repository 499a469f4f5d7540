"""A trained model in another form, or under a name: what it takes to hand it over."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException

from foretrace.config import ExportConfig
from foretrace.config.run_config import read_data_config
from foretrace.data import sources
from foretrace.data.sequences import FloatArray
from foretrace.errors import UserError
from foretrace.serving.loading import find_trained, load_stored
from foretrace.serving.model_file import CODE, MODEL, save_model, write_mlflow_model
from foretrace.serving.predictor import Predictor
from foretrace.tracking.stored import StoredRun
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace, atomic_write, check_target

CHAMPION = "champion"
EPISODES = 4  # of the test part, on which all forms have to agree: the shortest, the longest and two between


def run(config: ExportConfig, *, workspace: Workspace) -> Path | None:
    """Write a model as one file, or register it with MLflow, or both.

    ONNX is written only where PyTorch, ONNX Runtime and MLflow's model agree on real episodes.

    Returns:
        The path of the file, if one was asked for.

    Raises:
        UserError: If something that the user gave cannot be used, or the forms disagree; then there is no file.
    """
    filter_library_logs()
    target = None
    if config.format is not None:
        target = check_target(config.output or f"model.{config.format}", overwrite=config.overwrite)
    workspace = replace(workspace, uri=config.tracking.uri)
    trained = find_trained(config.run, workspace)
    predictor = load_stored(trained)
    if target is not None:
        if config.format == "onnx":
            _write_onnx(target, predictor, _episodes(trained, predictor, config, workspace))
        else:
            save_model(target, predictor.card, predictor.model, predictor.calibration)
        print(f"model    {target}, {target.stat().st_size / 1e6:.2g} MB", flush=True)
    if config.register_as is not None:
        version = register(trained, predictor, name=config.register_as)
        model = f"models:/{config.register_as}"
        print(f"run      {trained.id}\nmodel    {model}/{version}, now {model}@{CHAMPION}")
        print(f"serve    mlflow models serve -m {model}@{CHAMPION} --env-manager local")
    return target


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
        version = client.create_model_version(name, f"{run.info.artifact_uri}/{MODEL}", run_id=run.id)
        client.set_registered_model_alias(name, CHAMPION, version.version)
    except MlflowException as error:
        raise UserError(f"register_as: {name!r} is refused ({str(error).splitlines()[0]})") from error
    return int(version.version)


def _write_onnx(target: Path, predictor: Predictor, episodes: list[FloatArray]) -> None:
    try:
        from foretrace.serving.onnx import OnnxRunner, check_parity, write_onnx
    except ModuleNotFoundError as error:
        hint = "pip install 'foretrace[serving]', in the checkout '.[serving]'."
        raise UserError(f"format: onnx needs {error.name}, which is not installed", hint=hint) from error
    with atomic_write(target) as aside, TemporaryDirectory() as folder:
        write_onnx(aside, predictor)
        write_mlflow_model(Path(folder) / "model", predictor)
        pyfunc = mlflow.pyfunc.load_model(str(Path(folder) / "model"))
        found = check_parity(predictor, OnnxRunner(aside), pyfunc, episodes)
    most = ", ".join(f"{name} {difference:.1e}" for name, difference in found.items())
    print(f"agrees   {most} standard deviations from PyTorch at most, over {len(episodes)} episodes")


def _episodes(
    trained: StoredRun, predictor: Predictor, config: ExportConfig, workspace: Workspace
) -> list[FloatArray]:
    """Real recordings with the model's columns, each (T, C)."""
    settings = config.data or read_data_config(trained.download_artifact("config.yaml"))
    data = sources.load(settings, cache=workspace.cache)
    sequences = data.windows.get("test", data.windows["valid"]).sequences
    predictor.card.check_columns(sequences)
    by_length = np.argsort(sequences.lengths, kind="stable")
    places = np.linspace(0, len(by_length) - 1, min(EPISODES, len(by_length))).round().astype(int)
    chosen = [sequences.bounds[by_length[place]] for place in places]
    return [
        np.concatenate([sequences.values[first:end], sequences.covariates[first:end]], axis=1)
        for first, end in chosen
    ]
