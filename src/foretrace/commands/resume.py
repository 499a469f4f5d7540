"""Where a training run starts: at the beginning, at the last checkpoint of a run, or with the settings of one."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.config.run_config import Changes, changes, merge_settings, read_run_config
from foretrace.data.sources import WindowDataModule
from foretrace.errors import UserError
from foretrace.serving.loading import trained_model
from foretrace.tracking import store
from foretrace.tracking.run import TrackedRun
from foretrace.training.checkpoint_io import BEST, LAST, PREVIOUS, has_stopped_early, latest_valid_checkpoint
from foretrace.training.module import batches_per_epoch
from foretrace.training.optimizers import check_extension, check_optimizer, stretch_schedule
from foretrace.workspace import Workspace

# What a resumed run may change: how long it trains, how it is watched and evaluated, and where the same data are now.
RESUMABLE_KEYS = (
    "data.path",
    "data.root",
    "evaluation.",
    "tracking.csv",
    "trainer.checkpoint_minutes",
    "trainer.devices",
    "trainer.diagnose_every",
    "trainer.early_stopping",
    "trainer.max_epochs",
    "trainer.max_minutes",
    "trainer.progress",
)
LATEST = "last"
NEW_RUN = "That is another experiment: start a new run, or rerun=<id> with it."


@dataclass(frozen=True)
class StartPoint:
    """What a training run starts from."""

    config: TrainConfig
    workspace: Workspace  # where its runs are
    overrides: Sequence[str]  # what was typed
    kind: Literal["new", "resume", "rerun"] = "new"
    run: TrackedRun | None = None  # that is resumed
    checkpoint: Path | None = None  # where it is resumed; None at the beginning
    step: int = 0  # batches trained up to there
    epochs: int = 0  # for which it was begun
    data_digest: str | None = None  # SHA-256 of the training data up to there
    repeated: TrackedRun | None = None
    changes: Changes = field(default_factory=dict)  # settings that differ from the run's: value then and now

    def check(self, precision: str, data: WindowDataModule) -> None:
        """See whether a run is resumed in its own arithmetic, on its own data, with a schedule that lasts.

        Raises:
            UserError: If not.
        """
        if self.run is None:
            return
        begun_with = self.run.tags.get("precision", precision)
        if begun_with != precision:
            message = f"trainer.precision: the run began in {begun_with}, and auto is {precision} here"
            raise UserError(message, hint="Resume it where it began, or rerun=<id>.")
        digest = data.windows["train"].sequences.digest
        if self.data_digest not in (None, digest):
            message = f"data: SHA-256 {digest[:12]}…, but the run's was {str(self.data_digest)[:12]}…"
            raise UserError(message, hint="Bring the same data, or start a new run.")
        batches = batches_per_epoch(self.config, data)
        check_extension(self.config, epochs=self.epochs, batches_per_epoch=batches)


def resolve_start(
    cfg: TrainConfig | DictConfig, *, overrides: Sequence[str], workspace: Workspace
) -> StartPoint:
    """Return where a run starts that was asked for.

    Args:
        cfg: Settings as composed from ``conf/``; or a new run's, which `parse` and `check_optimizer` have checked.
        overrides: What was typed.
        workspace: Where a recorded run is looked for, unless ``tracking.uri`` says otherwise.

    Raises:
        UserError: If that is not possible.
    """
    workspace = replace(workspace, uri=cfg.tracking.uri)
    if isinstance(cfg, TrainConfig):
        return StartPoint(cfg, workspace, overrides)
    if cfg.resume is not None and cfg.rerun is not None:
        raise UserError("resume: cannot be combined with rerun")
    if cfg.resume is None and cfg.rerun is None:
        start = StartPoint(parse(cfg, TrainConfig), workspace, overrides)
    else:
        start = _from_record(cfg, overrides, workspace)
    check_optimizer(start.config)
    return start


def _from_record(composed: DictConfig, overrides: Sequence[str], workspace: Workspace) -> StartPoint:
    key: Literal["resume", "rerun"] = "rerun" if composed.rerun is not None else "resume"
    run = _find_run(str(composed[key]), key, workspace)
    try:
        path = run.download_artifact("config.yaml")
    except UserError as error:
        message = f"{key}: run {run.id} has no recorded settings: it ended before that, or is no training run"
        hint = "Start a new run with the command in its tag `command`."
        raise UserError(message, hint=hint) from error
    # A sweep's job asks for what it began with, and its groups (`experiment=…`) are no settings of a run.
    asked = [] if composed.sweep.parent else overrides
    config, changed = merge_settings(read_run_config(path, key=key), composed, asked)
    start = StartPoint(config, workspace, overrides, kind=key, changes=changed)
    if key == "rerun":
        return replace(start, repeated=run)
    for name, (then, now) in changed.items():
        if not name.startswith(RESUMABLE_KEYS):
            message = f"{name}: the run began with {then}, and cannot be resumed with {now}"
            raise UserError(message, hint=NEW_RUN)
    if process := run.at_work():
        raise UserError(f"resume: {process} is at work on {run.id}", hint="Wait for it, or end that process.")
    epochs, _ = changed.get("trainer.max_epochs", (config.trainer.max_epochs, None))
    stretched = stretch_schedule(config, epochs=epochs)
    changed = changed | changes(config.model_dump(), stretched.model_dump())
    return _at_checkpoint(replace(start, config=stretched, run=run, epochs=epochs, changes=changed), run)


def _at_checkpoint(start: StartPoint, run: TrackedRun) -> StartPoint:
    """Find the checkpoint of a run that is resumed, and whether there is something left to train."""
    for name in (LAST, PREVIOUS, BEST):
        with suppress(UserError):  # a run that was killed early has none
            run.download_artifact(f"checkpoints/{name}")
    found = latest_valid_checkpoint(run.folder / "checkpoints")
    if found is None:
        print("resume   from the beginning: the run was ended before its first checkpoint")
        return start
    path, content = found
    card, _ = trained_model(path, content)
    if card.model.model_dump() != start.config.model.network():
        raise UserError(f"{path}: not the network of the run's settings", hint="Train anew: rerun=<id>.")
    settings, epochs = start.config.trainer, int(content["epoch"])
    if run.info.status == "FINISHED":  # it may have nothing left to train
        epochs += bool(content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"])
        if epochs >= settings.max_epochs:
            hint = "To train it for longer: trainer.max_epochs=…"
            raise UserError(f"resume: the run has trained its {epochs} epochs", hint=hint)
        stopping = settings.early_stopping
        if stopping is not None and has_stopped_early(content, patience=stopping.patience):
            message = f"resume: the run stopped early, after {epochs} of {settings.max_epochs} epochs"
            hint = "To train it for longer: trainer.early_stopping=null, or with a larger patience."
            raise UserError(message, hint=hint)
    step = int(content["global_step"])
    print(f"resume   after {step} batches, in epoch {content['epoch'] + 1}")
    return replace(start, checkpoint=path, step=step, data_digest=card.data_digest)


def _find_run(run_id: str, key: str, workspace: Workspace) -> TrackedRun:
    """Look up a run by its id, or by ``last``: the training run begun last of those that have not finished."""
    if run_id != LATEST:
        return store.find_run(run_id, workspace, key=key)
    client, found = store.latest_runs(workspace, "attributes.status != 'FINISHED'")
    for run in found:
        if "trainer.max_epochs" in run.data.params:
            return TrackedRun(client, run, staging=workspace.staging)
    hint = "To train a finished run for longer: resume=<id> trainer.max_epochs=…"
    raise UserError(f"{key}: all training runs have finished", hint=hint)
