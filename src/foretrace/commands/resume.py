"""How a training starts: anew, as the continuation of a run, or as the repetition of one."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.config.run_config import read_run_config
from foretrace.errors import InputError, UserError
from foretrace.serving.loading import trained_model
from foretrace.tracking import store
from foretrace.tracking.process import Process
from foretrace.tracking.run import TrackedRun
from foretrace.training.callbacks.checkpoints import BEST, LAST, PREVIOUS, latest_valid_checkpoint
from foretrace.training.checkpoint_io import read_checkpoint
from foretrace.workspace import Workspace

# What a resumed training may change: how long, how it is watched and judged, and where the same data lie now.
RESUMABLE_KEYS = (
    "data.path",
    "data.root",
    "evaluation.",
    "trainer.checkpoint_minutes",
    "trainer.devices",
    "trainer.diagnose_every",
    "trainer.early_stopping",
    "trainer.max_epochs",
    "trainer.progress",
)
LATEST = "last"
DIRECTIVES = ("resume", "rerun", "sweep.", "hydra")
MISSING = "nothing"

Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Args:
        config: Its settings.
        kind: Whether it is new, goes on with ``run``, or repeats a run.
        run: The run to go on with.
        checkpoint: Where it goes on; None at the beginning.
        step: Batches trained up to there.
        data_digest: SHA-256 of the training data up to there.
        repeated: The run that is repeated.
        changes: Settings that differ from the run's: value then and now.
    """

    config: TrainConfig
    kind: Literal["new", "resume", "rerun"] = "new"
    run: TrackedRun | None = None
    checkpoint: Path | None = None
    step: int = 0
    data_digest: str | None = None
    repeated: TrackedRun | None = None
    changes: Changes = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """Labels that a new run gets for it."""
        return {"rerun_of": self.repeated.id} if self.repeated else {}

    def check_data(self, digest: str) -> None:
        """Makes sure that the data are those which the training to go on with has seen.

        Raises:
            InputError: If not.
        """
        if self.data_digest is not None and digest != self.data_digest:
            expected = f"the run's data (SHA-256 {self.data_digest[:12]}…)"
            received = f"other data (SHA-256 {digest[:12]}…)"
            remedy = "Bring the same data, or start a new run."
            raise InputError("data", expected=expected, received=received, remedy=remedy)


def prepare(
    cfg: TrainConfig | DictConfig | Mapping[str, Any], *, overrides: Sequence[str], workspace: Workspace
) -> Start:
    """Finds out what is asked for, and whether it can be done.

    Raises:
        InputError: If not.
    """
    composed = OmegaConf.create(dict(cfg.model_dump() if isinstance(cfg, TrainConfig) else cfg))
    resume, rerun = composed.get("resume"), composed.get("rerun")
    if resume is None and rerun is None:
        return Start(cfg if isinstance(cfg, TrainConfig) else parse(cfg, TrainConfig))
    if resume is not None and rerun is not None:
        raise InputError("resume", expected="either resume or rerun", received="both")
    key = "resume" if rerun is None else "rerun"
    client, found = find(str(resume or rerun), key=key, workspace=workspace, uri=composed.tracking.uri)
    tracked = TrackedRun(client, found, staging=workspace.staging)
    recorded = _recorded(tracked, key)
    # A sweep's job asks for what it began with, and its groups (`experiment=…`) are no settings of a run.
    asked = [one for one in overrides if not composed.sweep.parent or one.startswith("tracking.uri=")]
    config, changes = settings(recorded, composed, asked)
    if key == "rerun":
        return Start(config, kind="rerun", repeated=tracked, changes=changes)
    _check_nobody_is_at_work(found)
    check_resumable(changes)
    _check_there_is_more(found, recorded, config)
    return _resumption(config, changes, tracked)


def _resumption(config: TrainConfig, changes: Changes, tracked: TrackedRun) -> Start:
    for name in (LAST, PREVIOUS, BEST):
        with suppress(UserError):  # a run that was killed early has none
            tracked.download_artifact(f"checkpoints/{name}")
    checkpoint = latest_valid_checkpoint(tracked.folder / "checkpoints", say=print)
    if checkpoint is None:
        print("resume   from the beginning: the run was ended before its first checkpoint")
        return Start(config, kind="resume", run=tracked, changes=changes)
    held = read_checkpoint(checkpoint)
    card, _ = trained_model(checkpoint, held)
    if card.model.model_dump() != config.model.network():
        expected, received = (
            f"a checkpoint of the network {config.model.network()}",
            f"one of {card.model.model_dump()}",
        )
        raise InputError(
            str(checkpoint), expected=expected, received=received, remedy="Train anew: rerun=<id>."
        )
    step, digest = int(held["global_step"]), card.data_digest
    print(f"resume   after {step} batches, in epoch {held['epoch'] + 1}")
    return Start(config, "resume", tracked, checkpoint, step=step, data_digest=digest, changes=changes)


def _recorded(tracked: TrackedRun, key: str) -> dict[str, Any]:
    try:
        path = tracked.download_artifact("config.yaml")
    except UserError as error:
        hint = (
            "It ended before that, or is no training: start a new run with the command in its tag `command`."
        )
        raise UserError(f"{key}: the run recorded no settings ({error})", hint=hint) from error
    settings = read_run_config(path, key=key)
    trainer = settings.get("trainer")
    if not isinstance(trainer, dict) or type(trainer.get("max_epochs")) is not int:
        expected, received = f"settings of a training in {path}", "none of trainer.max_epochs"
        raise InputError(key, expected=expected, received=received)
    return settings


def _check_nobody_is_at_work(run: Run) -> None:
    process = Process.of_tags(run.data.tags)
    if run.info.status == "RUNNING" and process is not None and process.is_at_work():
        received = f"one that process {process.pid} is working on"
        raise InputError("resume", expected="a run that no process works on", received=received)


def _check_there_is_more(run: Run, recorded: dict[str, Any], config: TrainConfig) -> None:
    epochs, before = config.trainer.max_epochs, recorded["trainer"]["max_epochs"]
    if run.info.status == "FINISHED" and epochs <= before:
        remedy = "To train it for longer: trainer.max_epochs=…"
        received = f"one that finished its {before} epochs"
        raise InputError("resume", expected="a run with epochs left", received=received, remedy=remedy)
    if epochs > before and config.scheduler and "total_steps" in config.scheduler.model_dump():
        expected = f"at most {before}, where the schedule {config.scheduler.name} ends"
        raise InputError("trainer.max_epochs", expected=expected, received=str(epochs))


def find(run_id: str, *, key: str, workspace: Workspace, uri: str | None) -> tuple[MlflowClient, Run]:
    """Looks up the run to start again.

    Args:
        run_id: Its id, or ``last``: the training begun last of those that have not finished.
        key: The setting that names it, ``resume`` or ``rerun``.
        workspace: Holds the database unless ``uri`` says otherwise.
        uri: A tracking server or database, or None for the checkout's own.

    Raises:
        InputError: If there is none.
    """
    if run_id != LATEST:
        return store.find_run(run_id, workspace=workspace, uri=uri, key=key)
    if uri is None and not workspace.database.exists():  # to look into it would make it
        expected = "a training that did not finish"
        raise InputError(key, expected=expected, received="no run at all", remedy="Train first.")
    client = store.open_store(workspace=workspace, uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status != 'FINISHED'", order_by=["start_time DESC"])
    trainings = [run for run in found if "trainer.max_epochs" in run.data.params]
    if not trainings:
        received = "none: all runs are finished" if found or experiments else "no run at all"
        remedy = "To train a finished run for longer: resume=<id> trainer.max_epochs=…"
        raise InputError(key, expected="a training that did not finish", received=received, remedy=remedy)
    return client, trainings[0]


def settings(
    recorded: dict[str, Any], composed: DictConfig, overrides: Sequence[str]
) -> tuple[TrainConfig, Changes]:
    """The settings of a run with what was asked for today, and what that changes.

    Args:
        recorded: The run's own, from its ``config.yaml``.
        composed: Today's, as composed from ``conf/`` with the overrides.
        overrides: What was asked for today.

    Raises:
        InputError: If the result cannot be used.
    """
    today: Any = OmegaConf.to_container(composed, resolve=False)
    # A setting that is younger than the run takes today's default.
    started = {key: _younger(today[key], recorded.get(key, today[key])) for key in today if key != "hydra"}
    config = OmegaConf.create(started)
    for key in _asked(overrides):
        value = OmegaConf.select(composed, key, default=MISSING)
        if isinstance(value, str) and value == MISSING:
            remedy = "Name single settings, or start a new run."
            raise InputError(
                key, expected="a setting of the run", received="a choice of several", remedy=remedy
            )
        if OmegaConf.is_dict(value) and _variant(value) == _variant(config.get(key)):
            continue  # `data=files` as it was: there for the settings that are named after it
        OmegaConf.update(config, key, value, merge=False)
    changes = _changes(recorded, OmegaConf.to_container(config, resolve=True))
    return parse(config, TrainConfig), changes


def check_resumable(changes: Changes) -> None:
    """Lets a training go on only as what it was.

    Raises:
        InputError: If a change would make another one of it.
    """
    for key, (then, now) in changes.items():
        if not key.startswith(RESUMABLE_KEYS):
            remedy = "That is another experiment: start a new run, or rerun=<id> with it."
            raise InputError(key, expected=f"{then}, as the run began", received=str(now), remedy=remedy)


def _asked(overrides: Sequence[str]) -> list[str]:
    keys = [override.lstrip("+~").split("=", 1)[0].split("@")[0] for override in overrides]
    return [key for key in keys if not key.startswith(DIRECTIVES)]


def _variant(group: Any) -> Any:
    return (group.get("source") or group.get("name")) if isinstance(group, Mapping) else group


def _younger(today: Any, recorded: Any) -> Any:
    """Groups without variants may have grown; the data's keys depend on their source, and are taken as they are."""
    if (
        isinstance(today, dict)
        and isinstance(recorded, dict)
        and "source" not in recorded
        and "name" not in recorded
    ):
        return {**today, **recorded}
    return recorded


def _changes(recorded: Any, now: Any, prefix: str = "") -> Changes:
    found: Changes = {}
    for key in dict.fromkeys([*recorded, *now]):
        name, then, today = f"{prefix}{key}", recorded.get(key, MISSING), now.get(key, MISSING)
        if name.startswith(DIRECTIVES) or then == MISSING or name == "tracking.uri":
            continue
        if isinstance(then, dict) and isinstance(today, dict):
            found |= _changes(then, today, f"{name}.")
        elif then != today:
            found[name] = (then, today)
    return found
