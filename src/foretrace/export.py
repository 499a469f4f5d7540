"""A trained model in another form, or under a name: what it takes to hand it over."""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
import numpy as np

from foretrace.config import PROJECT_ROOT
from foretrace.data import sources
from foretrace.errors import InputError
from foretrace.inference import agreement, runs
from foretrace.inference.loading import load_run
from foretrace.inference.portable import save_model
from foretrace.inference.predictor import Predictor
from foretrace.inference.rows import FloatArray
from foretrace.judgement import recorded_data
from foretrace.quiet import quiet_libraries
from foretrace.settings import ExportConfig
from foretrace.tracking.run import TrackedRun
from foretrace.whole import check_target, whole_file

EPISODES = 4  # of the test part, on which all forms have to agree: the shortest, the longest and two between


def run(config: ExportConfig) -> Path | None:
    """Writes a model as one file, or registers it with MLflow, or both.

    ONNX is written only where PyTorch, ONNX Runtime and MLflow's model agree on real episodes.

    Returns:
        The path of the file, if one was asked for.

    Raises:
        InputError: If something that the user gave cannot be used, or the forms disagree; then there is no file.
    """
    quiet_libraries()
    target = None
    if config.format is not None:
        if config.format == "onnx":
            _check_installed()
        target = Path(config.output or f"model.{config.format}").expanduser()
        check_target(target, overwrite=config.overwrite)
    trained = runs.find_trained(config.run, uri=config.tracking.uri)
    predictor = load_run(trained.id, uri=config.tracking.uri)
    if target is not None:
        if config.format == "onnx":
            _write_onnx(target, predictor, _episodes(trained, predictor, config))
        else:
            save_model(target, predictor.card, predictor.model)
        print(f"model    {target}, {target.stat().st_size / 1e6:.2g} MB", flush=True)
    if config.register_as is not None:
        name = config.register_as
        version = runs.register(trained, predictor.card, predictor.model, name=name)
        print(f"run      {trained.id}\nmodel    models:/{name}/{version}, now models:/{name}@{runs.CHAMPION}")
        print(f"serve    mlflow models serve -m models:/{name}@{runs.CHAMPION} --env-manager local")
    return target


def _write_onnx(target: Path, predictor: Predictor, episodes: list[FloatArray]) -> None:
    from foretrace.inference.onnx_model import OnnxRunner, write_onnx

    with whole_file(target) as aside, TemporaryDirectory() as folder:
        write_onnx(aside, predictor)
        runs.write_mlflow_model(Path(folder) / "model", predictor.card, predictor.model)
        loaded = mlflow.pyfunc.load_model(str(Path(folder) / "model"))
        found = {
            "ONNX Runtime": agreement.check_onnx(predictor, OnnxRunner(aside), episodes),
            "MLflow": agreement.check_pyfunc(predictor, loaded, episodes),
        }
    print(agreement.summary(found, episodes=len(episodes)))


def _episodes(trained: TrackedRun, predictor: Predictor, config: ExportConfig) -> list[FloatArray]:
    """Real recordings with the model's columns, each (T, C)."""
    settings = config.data or recorded_data(trained)
    sources.check(settings)
    data = sources.load(settings, cache=PROJECT_ROOT / ".cache")
    sequences = data.windows.get("test", data.windows["valid"]).sequences
    if sequences.feature_names + sequences.known_names != predictor.columns:
        received = ", ".join(sequences.feature_names + sequences.known_names)
        raise InputError("data", expected=f"the columns {', '.join(predictor.columns)}", received=received)
    by_length = np.argsort(sequences.lengths, kind="stable")
    places = np.linspace(0, len(by_length) - 1, min(EPISODES, len(by_length))).round().astype(int)
    chosen = [sequences.bounds[by_length[place]] for place in places]
    return [
        np.concatenate([sequences.values[first:end], sequences.known[first:end]], axis=1)
        for first, end in chosen
    ]


def _check_installed() -> None:
    try:
        import_module("onnx")
        import_module("onnxruntime")
    except ImportError as error:
        remedy = "pip install 'foretrace[serving]', in the checkout '.[serving]'."
        raise InputError(
            "format", expected="onnx and onnxruntime installed", received=f"no {error.name}", remedy=remedy
        ) from error
