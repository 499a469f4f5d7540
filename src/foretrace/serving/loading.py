"""Where a model is: a file, a folder, a run, the registry."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foretrace.errors import InputError
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import ModelCard, read_model, reason
from foretrace.serving.predictor import Predictor
from foretrace.training.checkpoint_io import A_CHECKPOINT, check_parts, read_checkpoint
from foretrace.workspace import Workspace

MODEL = "model"  # a run's artifact: the folder of an MLflow model
FILE = "model.safetensors"
BEST = "checkpoints/best.ckpt"
# Within an MLflow model, a run's artifacts, a run's folder, a folder of anything; best first.
PLACES = (f"artifacts/{FILE}", f"{MODEL}/artifacts/{FILE}", f"artifacts/{MODEL}/artifacts/{FILE}", FILE)
CHECKPOINTS = (BEST, f"artifacts/{BEST}")  # of a training that was ended early
A_PLACE = "a model file, a checkpoint, a run's folder or an MLflow model's folder"


def load(where: str | Path) -> Predictor:
    """Loads a trained model.

    Args:
        where: ``runs:/<id>`` (of a sweep's parent: its best run), ``models:/<name>@<alias>``, or the path of a
            model file, a checkpoint, a run's folder or an MLflow model's folder. Runs are looked for where
            ``MLFLOW_TRACKING_URI`` says, else in the checkout.

    Raises:
        InputError: If there is no such model, or it cannot be read.
    """
    text = str(where)
    if text.startswith("runs:/"):
        run_id, _, path = text.removeprefix("runs:/").partition("/")
        if path not in ("", MODEL):
            raise InputError("model", expected=f"runs:/<id> or runs:/<id>/{MODEL}", received=text)
        return load_run(run_id, uri=os.environ.get("MLFLOW_TRACKING_URI"), workspace=Workspace.default())
    if text.startswith("models:/"):
        return _load_registered(text)
    return load_path(Path(where).expanduser())


def load_path(path: Path) -> Predictor:
    """Loads from a file or a folder."""
    found = path
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a name that is too long
        raise InputError("model", expected=A_PLACE, received=f"{path} ({error.strerror})") from error
    if is_folder:
        inside = [path / place for place in PLACES + CHECKPOINTS if (path / place).is_file()]
        if not inside:
            raise InputError(str(path), expected=A_PLACE, received="a folder without one")
        found = inside[0]
    if not found.is_file():
        raise InputError(str(path), expected=A_PLACE, received="nothing there")
    return _load_checkpoint(found) if found.suffix == ".ckpt" else Predictor(*read_model(found))


def load_run(run_id: str, *, uri: str | None, workspace: Workspace, key: str = "run") -> Predictor:
    """Loads the model that a run trained: the file that it wrote, or the best checkpoint of one that was cut.

    Args:
        run_id: Its id; of a sweep's parent, that of the best child is taken.
        uri: A tracking server or database, or None for the workspace's own.
        workspace: Where runs are looked for.
        key: The setting that names the run, for errors.

    Raises:
        InputError: If there is no such run, or it has no model.
    """
    from foretrace.serving.registry import find_trained  # MLflow takes seconds to import

    trained = find_trained(run_id, uri=uri, workspace=workspace, key=key)
    for artifact in (PLACES[1], BEST):
        try:
            path = trained.download_artifact(artifact)
        except InputError:
            continue
        found = load_path(path)
        return Predictor(found.card.model_copy(update={"run_id": trained.id}), found.model)
    remedy = "It has one once its first epoch has ended."
    raise InputError(key, expected="a run with a model", received=f"{trained.id} without one", remedy=remedy)


def _load_registered(uri: str) -> Predictor:
    from foretrace.serving.registry import download

    with TemporaryDirectory() as folder:
        return load_path(download(uri, Path(folder)))


def _load_checkpoint(path: Path) -> Predictor:
    return Predictor(*trained_model(path, read_checkpoint(path)))


def trained_model(path: Path, checkpoint: dict[str, Any]) -> tuple[ModelCard, NextStepModel]:
    """What a checkpoint was read for.

    Args:
        path: Of the checkpoint, for errors.
        checkpoint: What `read_checkpoint` gave.

    Raises:
        InputError: If it is no training's, or was tampered with.
    """
    check_parts(path, checkpoint)
    # The module that trains has it as its `model`.
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if str(name).startswith("model.")
    }
    try:
        trained = checkpoint["hyper_parameters"]
        card = ModelCard.of_training(trained["features"], trained["model"])
        return card, card.build_with(weights)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(str(path), expected=A_CHECKPOINT, received=reason(error)) from error
