"""Where a trained model is found: a file, a folder, a run, MLflow's registry."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from foretrace.errors import UserError
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import ModelCard, read_model, reason
from foretrace.serving.predictor import Predictor
from foretrace.training.checkpoint_io import read_checkpoint
from foretrace.workspace import Workspace

if TYPE_CHECKING:  # MLflow takes seconds to import: where a file is read, it is not needed
    from foretrace.tracking.stored import StoredRun

MODEL = "model"  # a run's artifact: the folder of an MLflow model
FILE = "model.safetensors"
BEST = "checkpoints/best.ckpt"
# Within an MLflow model, a run's artifacts, a run's folder, any folder; at last the checkpoint of a run cut short.
MODEL_FILES = (f"artifacts/{FILE}", f"{MODEL}/artifacts/{FILE}", f"artifacts/{MODEL}/artifacts/{FILE}", FILE)
CHECKPOINTS = (BEST, f"artifacts/{BEST}")
KINDS = "Give a model file, a checkpoint, a run's folder or an MLflow model's folder."


def load(where: str | Path) -> Predictor:
    """Load a trained model.

    Args:
        where: ``runs:/<id>`` (of a sweep's parent: its best run), ``models:/<name>@<alias>``, or the path of a
            model file, a checkpoint, a run's folder or an MLflow model's folder. Runs are looked for where
            ``MLFLOW_TRACKING_URI`` says, else in the workspace.

    Raises:
        UserError: If there is no such model, or it cannot be read.
    """
    text, workspace, uri = str(where), Workspace.default(), os.environ.get("MLFLOW_TRACKING_URI")
    if text.startswith("runs:/"):
        run_id, _, path = text.removeprefix("runs:/").partition("/")
        if path not in ("", MODEL):
            raise UserError(f"model: must be runs:/<id> or runs:/<id>/{MODEL}, got {text}")
        return load_run(run_id, uri=uri, workspace=workspace)
    if text.startswith("models:/"):
        from foretrace.serving.registry import download

        with TemporaryDirectory() as folder:
            return load_path(download(text, Path(folder), uri=uri, workspace=workspace))
    return load_path(Path(where).expanduser())


def load_path(path: Path) -> Predictor:
    """Load from a file or a folder.

    Raises:
        UserError: If there is no model, or it cannot be read.
    """
    try:
        inside = [path / name for name in MODEL_FILES + CHECKPOINTS if (path / name).is_file()]
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero
        raise UserError(f"model: {path} cannot be a path ({error})", hint=KINDS) from error
    if is_folder and not inside:
        raise UserError(f"model: no model in the folder {path}", hint=KINDS)
    if not is_folder and not is_file:
        raise UserError(f"model: no file {path}", hint=KINDS)
    found = inside[0] if is_folder else path
    if found.suffix == ".ckpt":
        return Predictor(*trained_model(found, read_checkpoint(found)))
    return Predictor(*read_model(found))


def load_run(run_id: str, *, uri: str | None, workspace: Workspace, key: str = "run") -> Predictor:
    """Load the model that a run trained: the file that it wrote, or the best checkpoint of one that was cut short.

    Args:
        run_id: Its id; of a sweep's parent, that of the best child is taken.
        uri: A tracking server or database, or None for the workspace's own.
        workspace: Where runs are looked for.
        key: The setting that names the run, for errors.

    Raises:
        UserError: If there is no such run, or it has no model.
    """
    return _load_stored(find_trained(run_id, uri=uri, workspace=workspace, key=key), key)


def load_ensemble(run_id: str, *, uri: str | None, workspace: Workspace) -> Predictor:
    """Load the models of all seeds of a sweep's best settings as one; of any other run its model.

    Args:
        run_id: Of the sweep's parent.
        uri: A tracking server or database, or None for the workspace's own.
        workspace: Where runs are looked for.

    Raises:
        UserError: If there is no such run, or a run of those has no model.
    """
    from foretrace.serving.ensemble import Ensemble, best_settings_runs
    from foretrace.tracking import store
    from foretrace.tracking.stored import StoredRun

    best = find_trained(run_id, uri=uri, workspace=workspace)
    if best.id == run_id:
        return _load_stored(best, "run")
    parent = StoredRun(*store.find_run(run_id, workspace=workspace, uri=uri), staging=workspace.staging)
    names = best_settings_runs(parent, best)
    members = [load_run(name, uri=uri, workspace=workspace) for name in names]
    return Ensemble(members) if len(members) > 1 else members[0]


def _load_stored(trained: "StoredRun", key: str) -> Predictor:
    for artifact in (MODEL_FILES[1], BEST):
        if trained.has_artifact(artifact):
            found = load_path(trained.download_artifact(artifact))
            card = found.card.model_copy(update={"run_id": trained.id})
            return Predictor(card, found.model, found.calibration)
    raise UserError(f"{key}: {trained.id} has no model", hint="It has one once its first epoch has ended.")


def find_trained(run_id: str, *, uri: str | None, workspace: Workspace, key: str = "run") -> "StoredRun":
    """Return the run, or the best child of a sweep's parent.

    Raises:
        UserError: If there is no such run.
    """
    from foretrace.tracking import store
    from foretrace.tracking.stored import StoredRun

    client, found = store.find_run(run_id, workspace=workspace, uri=uri, key=key)
    if best := found.data.tags.get("best_child"):
        _, found = store.find_run(best, workspace=workspace, uri=uri, key=f"{key}, best_child of {run_id}")
    return StoredRun(client, found, staging=workspace.staging)


def trained_model(path: Path, checkpoint: dict[str, Any]) -> tuple[ModelCard, NextStepModel]:
    """Return the card and the model of a checkpoint.

    Args:
        path: Of the checkpoint, for errors.
        checkpoint: What `read_checkpoint` gave.

    Raises:
        UserError: If it is not that of a training run, or was tampered with.
    """
    weights = {  # the module that trains has it as its `model`
        str(name).removeprefix("model."): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if str(name).startswith("model.")
    }
    try:
        trained = checkpoint["hyper_parameters"]
        card = ModelCard.from_training(trained["features"], trained["model"])
        return card, card.build(weights)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no checkpoint of a training run ({reason(error)})") from error
