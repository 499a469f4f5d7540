"""The composition root: configuration in, metrics out."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig

from foretrace.commands import resume
from foretrace.commands.metadata import record, record_settings, record_start, tell_differences
from foretrace.commands.resume import Start
from foretrace.config import Model, SimulatedData, Sweep, TrainConfig
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import DivergedError, InputError
from foretrace.model.next_step import count_parameters
from foretrace.reports import console
from foretrace.reports.report import review
from foretrace.serving.ancestor import Ancestor, begin_from, find_ancestor
from foretrace.serving.model_file import ModelCard
from foretrace.serving.registry import keep_model
from foretrace.sweeps.jobs import own
from foretrace.sweeps.pruning import TrialPruner, pruner_for
from foretrace.tracking import provenance, store
from foretrace.tracking.logger import BatchLoss, RunLogger
from foretrace.tracking.run import TrackedRun
from foretrace.training import memory, optimizers
from foretrace.training.callbacks import progress
from foretrace.training.callbacks.checkpoints import load_best
from foretrace.training.callbacks.diagnostics import Diagnostics
from foretrace.training.follower import follow
from foretrace.training.forecaster import TRAIN_LOSS, VALID_MSE, Forecaster
from foretrace.training.group import Group
from foretrace.training.leader import find_place, leading
from foretrace.training.log_filters import filter_library_logs
from foretrace.training.place import Place
from foretrace.training.precision import choose
from foretrace.training.trainer import count_batches, make_forecaster, make_trainer
from foretrace.workspace import Workspace


def run(
    cfg: TrainConfig | DictConfig | Mapping[str, Any], *, overrides: Sequence[str] = (), workspace: Workspace
) -> dict[str, float]:
    """Trains, evaluates and records one model; or goes on with a run, or repeats one.

    Args:
        cfg: The configuration, as composed from ``conf/train.yaml`` or checked already.
        overrides: What the user asked for beside the defaults, for the record.
        workspace: Where runs and caches lie.

    Returns:
        The final metrics by the names under which they are tracked.

    Raises:
        InputError: If something that the user gave cannot be used; then there is no run.
    """
    filter_library_logs()
    if Place.here().rank:
        follow()
        return {}
    start = resume.prepare(cfg, overrides=overrides, workspace=workspace)
    config = start.config
    optimizers.check(**optimizers.chosen(config))
    sources.check(config.data)
    _check_precision(start)
    place = find_place(config)
    # What the user brings is read before there is a run: whatever is wrong with it leaves nothing behind.
    early = (start.run or config.model.init_from) is not None or not isinstance(config.data, SimulatedData)
    data = _load(config, workspace) if early else None
    if data is not None:
        start.check_data(data.windows["train"].sequences.digest)
        optimizers.chosen(config, batches=count_batches(config, data))
    ancestor = None
    if data is not None and start.checkpoint is None:
        train = data.windows["train"].sequences
        ancestor = find_ancestor(config.model, train, uri=config.tracking.uri, workspace=workspace)
    tracked, metrics = start.run or _begin(start, overrides, workspace), dict[str, float]()
    worth_going_on = not config.sweep.parent
    try:
        with tracked:
            data = data or _load(config, workspace)
            metrics = _train(start, data, tracked, overrides, place, workspace, ancestor)
    except DivergedError:
        worth_going_on = False  # it would come to the same end
        raise
    finally:
        if tracked.status in ("KILLED", "FAILED") and worth_going_on:
            print(f"to go on: python src/train.py resume={tracked.id}", flush=True)
        if tracked.status != "RUNNING":  # else it never was ours
            print(console.last_line(tracked.id, tracked.status, metrics), flush=True)
    return metrics


def _train(
    start: Start,
    data: WindowDataModule,
    tracked: TrackedRun,
    overrides: Sequence[str],
    place: Place,
    workspace: Workspace,
    ancestor: Ancestor | None,
) -> dict[str, float]:
    config, started = start.config, time.monotonic()
    with leading(place, config, start.checkpoint) as group:
        lightning.seed_everything(config.seed, verbose=False)
        forecaster = make_forecaster(config, data)
        if ancestor:
            begin_from(ancestor, forecaster.model, tracked)
        watching, diagnostics, pruner = _watching(config, data, tracked, workspace)
        trainer, checkpoints = make_trainer(
            config, group, tracked, watching=watching, logger=RunLogger(tracked)
        )
        device = trainer.strategy.root_device
        _record(start, data, forecaster, tracked, overrides, device=device, workspace=workspace)
        tracked.set_tags({"processes": place.size} if place.size > 1 else {})
        parameters = console.parameters(count_parameters(forecaster.model))
        precision, reason = choose(config.trainer.precision)
        tracked.set_tags({"precision": precision})
        processes = f" in each of {place.size} processes" if place.size > 1 else ""
        told = f"device   {device}{processes}, {precision} ({reason})"
        print(f"{console.data(config.data.source, data)}\n{parameters}\n{told}", flush=True)
        with group.joined():
            _check_same_data(group, data)
            with memory.kept(device):
                trainer.fit(forecaster, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
    trained = time.monotonic()
    if diagnostics:
        tracked.log_metrics({"diagnostics/share": diagnostics.cost}, step=trainer.current_epoch)
        print(*(f"inside   {line}" for line in diagnostics.lines()), sep="\n")

    if pruner and pruner.pruned_at is not None:  # its test error is nobody's business
        assert checkpoints.best_score is not None, "of the epochs up to there"
        told = f"at epoch {pruner.pruned_at}"
        print(f"pruned   {told}, as worse than most trials ({VALID_MSE} {checkpoints.best_score:.6f})")
        tracked.set_tags({"pruned": told})
        return {VALID_MSE: checkpoints.best_score}
    epoch, score = load_best(forecaster, checkpoints.folder)
    print(f"weights  of epoch {epoch}, the best on validation data (MSE {score:.6f})", flush=True)
    tracked.log_metrics({"best epoch": epoch}, step=trainer.current_epoch)
    title = f"{config.data.source}: {model_name(config.model)}, seed {config.seed}"
    metrics = {VALID_MSE: score}
    metrics |= review(forecaster.to(device), data, tracked, config.evaluation, title=title)
    keep_model(
        tracked,
        ModelCard.from_training(forecaster.hparams["features"], forecaster.hparams["model"]),
        forecaster.model,
    )
    tracked.log_text(provenance.IMPORTED, provenance.pins())  # by now, all of it
    times = {"training": trained - started, "evaluation and pictures": time.monotonic() - trained}
    print(console.whereabouts(tracked.id, tracked.folder, times, address=tracked.address))
    return metrics


def _watching(
    config: TrainConfig, data: WindowDataModule, tracked: TrackedRun, workspace: Workspace
) -> tuple[list[Callback], Diagnostics | None, TrialPruner | None]:
    """What the first process alone does while it trains, and those of it that are asked afterwards."""
    settings = config.trainer
    watching: list[Callback] = [BatchLoss(tracked, TRAIN_LOSS)]
    diagnostics = None
    if settings.diagnose_every:
        diagnostics = Diagnostics(data.windows["valid"], every_n_epochs=settings.diagnose_every)
        watching.insert(0, diagnostics)
    pruner = pruner_for(config.sweep, workspace)
    watching += [pruner] if pruner else []
    watching += [progress.TrainingBar()] if settings.progress else []
    return watching, diagnostics, pruner


def _record(
    start: Start,
    data: WindowDataModule,
    forecaster: Forecaster,
    tracked: TrackedRun,
    overrides: Sequence[str],
    *,
    device: torch.device,
    workspace: Workspace,
) -> None:
    record_start(start, overrides, tracked, workspace=workspace)
    if start.kind == "resume":
        record_settings(start.config, tracked)
    else:
        record(start.config, data, forecaster, tracked, device=device, workspace=workspace)
    tell_differences(start, data, tracked, device=device, workspace=workspace)


def _check_same_data(group: Group, data: WindowDataModule) -> None:
    for rank, theirs in group.differing(data.windows["train"].sequences.digest).items():
        received = f"{theirs} in process {rank + 1} of {group.place.size}"
        raise InputError("data", expected="the same data in all processes", received=received)


def _check_precision(start: Start) -> None:
    """A training that goes on elsewhere goes on in the arithmetic that it began in.

    Raises:
        InputError: If ``auto`` would choose another one here.
    """
    if start.kind != "resume" or start.run is None:
        return
    here = choose(start.config.trainer.precision).name
    then = start.run.logged_tags().get("precision", here)
    if then != here:
        received = f"{here}, which auto chooses on this machine"
        remedy = "Go on where it began, or rerun=<id>."
        raise InputError(
            "trainer.precision", expected=f"{then}, as the run began", received=received, remedy=remedy
        )


def _load(config: TrainConfig, workspace: Workspace) -> WindowDataModule:
    told = progress.simulation if config.trainer.progress else None
    return sources.load(config.data, cache=workspace.cache, seed=config.seed, progress=told)


def _begin(start: Start, overrides: Sequence[str], workspace: Workspace) -> TrackedRun:
    config, tracking = start.config, start.config.tracking
    name = tracking.run_name or f"{config.data.source} {model_name(config.model)} seed {config.seed}"
    tags = (tracking.tags or {}) | provenance.code(workspace.root)
    tags["command"] = provenance.command(own(overrides))
    tags |= start.tags() | _place_in_sweep(config.sweep, overrides)
    client, created = store.create_run(
        workspace=workspace, uri=tracking.uri, experiment=tracking.experiment, name=name, tags=tags
    )
    return TrackedRun(client, created, staging=workspace.staging)


def _place_in_sweep(sweep: Sweep, overrides: Sequence[str]) -> dict[str, str]:
    """How a sweep finds its jobs again: by parent, and by what was asked of each."""
    if sweep.parent is None:
        return {}
    trial = {} if sweep.trial is None else {"sweep.trial": str(sweep.trial)}
    return {MLFLOW_PARENT_RUN_ID: sweep.parent, "sweep.job": json.dumps(own(overrides)), **trial}


def model_name(model: Model) -> str:
    """A network in a few characters.

    >>> model_name(Model(hidden_sizes=[64, 32], dropout=0, output="change", input_clip=None, frozen=[]))
    '64-32 change'
    """
    return f"{'-'.join(str(width) for width in model.hidden_sizes)} {model.output}"
