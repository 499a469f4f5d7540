"""Where a trained model is found: a file, a folder, a run, MLflow's registry."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretrace.errors import UserError
from foretrace.model.ensemble import Ensemble
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import FILE, MODEL, UNUSABLE, ModelCard, read_model, reason
from foretrace.serving.predictor import Predictor
from foretrace.training.checkpoint_io import read_checkpoint
from foretrace.workspace import Workspace

if TYPE_CHECKING:  # MLflow takes seconds to import: where a file is read, it is not needed
    from foretrace.tracking.stored import StoredRun

BEST = "checkpoints/best.ckpt"  # of a run that was cut short
OF_A_RUN = (f"{MODEL}/artifacts/{FILE}", BEST)  # among its artifacts
IN_A_FOLDER = (f"artifacts/{FILE}", FILE, *OF_A_RUN, *(f"artifacts/{name}" for name in OF_A_RUN))
KINDS = "Give a model file, a checkpoint, a run's folder or an MLflow model's folder."
MOST_CHILDREN = 1000  # of a sweep, that are looked at


def load(where: str | Path) -> Predictor:
    """Load a trained model.

    Args:
        where: ``runs:/<id>`` (of a sweep's parent: its best run), ``models:/<name>@<alias>``, or the path of a
            model file, a checkpoint, a run's folder or an MLflow model's folder. Runs are looked for where
            ``MLFLOW_TRACKING_URI`` says, else in the workspace.

    Raises:
        UserError: If there is no such model, or it cannot be read.
    """
    text, workspace = str(where), Workspace.default()
    if text.startswith("models:/"):
        return load_run(registered_run(text, workspace), workspace, key="model")
    if not text.startswith("runs:/"):
        return load_path(Path(where).expanduser())
    run_id, _, path = text.removeprefix("runs:/").partition("/")
    if path not in ("", MODEL):
        raise UserError(f"model: must be runs:/<id> or runs:/<id>/{MODEL}, got {text}")
    return load_run(run_id, workspace)


def load_path(path: Path) -> Predictor:
    """Load from a file or a folder; see `load`."""
    try:
        candidates = [path / name for name in IN_A_FOLDER] if path.is_dir() else [path]
        found = next((file for file in candidates if file.is_file()), None)
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero
        raise UserError(f"model: {path} cannot be a path ({error})", hint=KINDS) from error
    if found is None:
        what = "no model in the folder" if len(candidates) > 1 else "no file"
        raise UserError(f"model: {what} {path}", hint=KINDS)
    if found.suffix == ".ckpt":
        return Predictor(*trained_model(found, read_checkpoint(found)))
    return Predictor(*read_model(found))


def load_run(run_id: str, workspace: Workspace, *, key: str = "run") -> Predictor:
    """Load the model of a run, see `find_trained` and `load_stored`."""
    return load_stored(find_trained(run_id, workspace, key=key), key=key)


def load_stored(trained: "StoredRun", *, key: str = "run") -> Predictor:
    """Load the model that a run trained: the file that it wrote, or the best checkpoint of one that was cut short.

    Raises:
        UserError: If it has none, or it cannot be read; begins with the ``key`` that names the run.
    """
    for artifact in OF_A_RUN:
        if trained.has_artifact(artifact):
            found = load_path(trained.download_artifact(artifact))
            card = found.card.model_copy(update={"run_id": trained.id})
            return Predictor(card, found.model, found.calibration)
    raise UserError(f"{key}: {trained.id} has no model", hint="It has one once its first epoch has ended.")


def load_ensemble(run_id: str, workspace: Workspace) -> Predictor:
    """Load the models of all seeds of a sweep's best settings as one, uncalibrated; of any other run its model.

    Raises:
        UserError: If there is no such run, or a run of those has no model.
    """
    best = find_trained(run_id, workspace)
    names = [best.id] if best.id == run_id else [best.id, *_other_seeds(best, parent=run_id)]
    members = [load_run(name, workspace) for name in names]
    cards = [member.card for member in members]
    if len({(card.feature_names, card.covariate_names, card.data_digest) for card in cards}) > 1:
        raise UserError("run: the models of the sweep's best settings were trained on different data")
    if len(members) == 1:
        return members[0]
    together = Predictor(cards[0], Ensemble([member.model for member in members]))
    together.run_ids = tuple(names)
    return together


def _other_seeds(best: "StoredRun", *, parent: str) -> list[str]:
    """Return the ids of a sweep's finished runs that differ from its best child by the seed alone."""
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    def settings(tags: dict[str, str]) -> list[str]:
        job = json.loads(tags.get("sweep.job", "[]"))
        return sorted(one for one in job if not one.lstrip("+").startswith("seed="))

    wanted, condition = settings(best.tags), "attributes.status = 'FINISHED'"
    condition += f" and tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' and attributes.run_id != '{best.id}'"
    found = best.client.search_runs([best.info.experiment_id], condition, max_results=MOST_CHILDREN)
    alike = [run for run in found if "pruned" not in run.data.tags and settings(run.data.tags) == wanted]
    return sorted(run.info.run_id for run in alike)


def find_trained(run_id: str, workspace: Workspace, *, key: str = "run") -> "StoredRun":
    """Return the run that trained a model: the one of that id, or the best child of a sweep's parent.

    Raises:
        UserError: If there is no such run; begins with the ``key`` that names it.
    """
    from foretrace.tracking import store

    found = store.find_run(run_id, workspace, key=key)
    if best := found.tags.get("best_child"):
        found = store.find_run(best, workspace, key=f"{key}, best_child of {run_id}")
    return found


def registered_run(address: str, workspace: Workspace) -> str:
    """Return the id of the run whose model is ``models:/<name>@<alias>`` or ``models:/<name>/<version>``.

    Raises:
        UserError: If there is none.
    """
    from mlflow.exceptions import MlflowException

    from foretrace.tracking import store

    client = store.open_store(workspace)
    name, _, alias = address.removeprefix("models:/").partition("@")
    name, _, version = name.partition("/")
    try:
        by_alias = client.get_model_version_by_alias
        return str((by_alias(name, alias) if alias else client.get_model_version(name, version)).run_id)
    except MlflowException as error:
        problem = f"model: no {address} in the registry ({str(error).splitlines()[0]})"
        raise UserError(problem, hint="Write models:/<name>@<alias> or models:/<name>/<version>.") from error


def trained_model(path: Path, checkpoint: dict[str, Any]) -> tuple[ModelCard, NextStepModel]:
    """Return the card and the model of a checkpoint, as `read_checkpoint` gave it.

    Raises:
        UserError: If it is not that of a training run, or was tampered with.
    """
    prefix = "model."  # the module that trains has the network as its `model`
    named = {str(name): tensor for name, tensor in checkpoint["state_dict"].items()}
    weights = {name.removeprefix(prefix): named[name] for name in named if name.startswith(prefix)}
    try:
        trained = checkpoint["hyper_parameters"]
        card = ModelCard.from_training(trained["features"], trained["model"])
        return card, card.build(weights)
    except UNUSABLE as error:
        raise UserError(f"{path}: no checkpoint of a training run ({reason(error)})") from error
