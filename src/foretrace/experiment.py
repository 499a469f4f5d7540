"""The composition root: configuration in, metrics out."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig

from foretrace import optimization, progress, starts, summary
from foretrace.checkpoints import load_best
from foretrace.config import PROJECT_ROOT
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import InputError
from foretrace.forecaster import VALID_MSE
from foretrace.inference.portable import Card
from foretrace.inference.runs import keep_model
from foretrace.model.next_step import count_parameters
from foretrace.precision import choose
from foretrace.quiet import quiet_libraries
from foretrace.record import record, record_settings, record_start, tell_differences
from foretrace.review import review
from foretrace.settings import Model, SimulatedData, Sweep, TrainConfig
from foretrace.starts import Start
from foretrace.sweeps.jobs import own
from foretrace.sweeps.pruning import pruner_for
from foretrace.tracking import provenance, store
from foretrace.tracking.run import TrackedRun
from foretrace.training import make_forecaster, make_trainer


def run(
    cfg: TrainConfig | DictConfig | Mapping[str, Any], *, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """Trains, evaluates and records one model; or goes on with a run, or repeats one.

    Args:
        cfg: The configuration, as composed from ``conf/train.yaml`` or checked already.
        overrides: What the user asked for beside the defaults, for the record.

    Returns:
        The final metrics by the names under which they are tracked.

    Raises:
        InputError: If something that the user gave cannot be used; then there is no run.
    """
    quiet_libraries()
    start = starts.prepare(cfg, overrides=overrides, root=PROJECT_ROOT)
    config = start.config
    optimization.check(**optimization.chosen(config))
    sources.check(config.data)
    _check_precision(start)
    # What the user brings is read before there is a run: whatever is wrong with it leaves nothing behind.
    early = start.run is not None or not isinstance(config.data, SimulatedData)
    data = _load(config) if early else None
    if data is not None:
        start.check_data(data.windows["train"].sequences.digest)
    tracked, metrics = start.run or _begin(start, overrides), dict[str, float]()
    try:
        with tracked:
            metrics = _train(start, data or _load(config), tracked, overrides)
    finally:
        if tracked.status in ("KILLED", "FAILED") and not config.sweep.parent:
            print(f"to go on: python src/train.py resume={tracked.id}", flush=True)
        if tracked.status != "RUNNING":  # else it never was ours
            print(summary.last_line(tracked.id, tracked.status, metrics), flush=True)
    return metrics


def _train(
    start: Start, data: WindowDataModule, tracked: TrackedRun, overrides: Sequence[str]
) -> dict[str, float]:
    config, started = start.config, time.monotonic()
    lightning.seed_everything(config.seed, verbose=False)
    forecaster = make_forecaster(config, data)
    pruner = pruner_for(config.sweep, PROJECT_ROOT)
    trainer, checkpoints, diagnostics = make_trainer(config, data, tracked, pruner)
    device = trainer.strategy.root_device
    record_start(start, overrides, tracked)
    if start.kind == "resume":
        record_settings(config, tracked)
    else:
        record(config, data, forecaster, tracked, device=device)
    tell_differences(start, data, tracked, device=device)
    parameters = summary.parameters(count_parameters(forecaster.model))
    precision, reason = choose(config.trainer.precision)
    tracked.tags({"precision": precision})
    told = f"device   {device}, {precision} ({reason})"
    print(f"{summary.data(config.data.source, data)}\n{parameters}\n{told}", flush=True)

    trainer.fit(forecaster, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
    trained = time.monotonic()
    if diagnostics:
        tracked.metrics({"diagnostics/share": diagnostics.cost}, step=trainer.current_epoch)
        print(*(f"inside   {line}" for line in diagnostics.lines()), sep="\n")

    if pruner and pruner.pruned_at is not None:  # its test error is nobody's business
        assert checkpoints.best_score is not None, "of the epochs up to there"
        told = f"at epoch {pruner.pruned_at}"
        print(f"pruned   {told}, as worse than most trials ({VALID_MSE} {checkpoints.best_score:.6f})")
        tracked.tags({"pruned": told})
        return {VALID_MSE: checkpoints.best_score}
    epoch, score = load_best(forecaster, checkpoints.folder)
    print(f"weights  of epoch {epoch}, the best on validation data (MSE {score:.6f})", flush=True)
    tracked.metrics({"best epoch": epoch}, step=trainer.current_epoch)
    title = f"{config.data.source}: {model_name(config.model)}, seed {config.seed}"
    metrics = {VALID_MSE: score}
    metrics |= review(forecaster.to(device), data, tracked, config.evaluation, title=title)
    keep_model(
        tracked,
        Card.of_training(forecaster.hparams["features"], forecaster.hparams["model"]),
        forecaster.model,
    )
    tracked.text(provenance.IMPORTED, provenance.imported(PROJECT_ROOT))  # by now, all of it
    times = {"training": trained - started, "evaluation and pictures": time.monotonic() - trained}
    print(summary.whereabouts(tracked.id, tracked.folder, times))
    return metrics


def _check_precision(start: Start) -> None:
    """A training that goes on elsewhere goes on in the arithmetic that it began in.

    Raises:
        InputError: If ``auto`` would choose another one here.
    """
    if start.kind != "resume" or start.run is None:
        return
    here = choose(start.config.trainer.precision).name
    then = start.run.recorded_tags().get("precision", here)
    if then != here:
        received = f"{here}, which auto chooses on this machine"
        remedy = "Go on where it began, or rerun=<id>."
        raise InputError(
            "trainer.precision", expected=f"{then}, as the run began", received=received, remedy=remedy
        )


def _load(config: TrainConfig) -> WindowDataModule:
    told = progress.simulation if config.trainer.progress else None
    return sources.load(config.data, cache=PROJECT_ROOT / ".cache", seed=config.seed, progress=told)


def _begin(start: Start, overrides: Sequence[str]) -> TrackedRun:
    config, tracking = start.config, start.config.tracking
    name = tracking.run_name or f"{config.data.source} {model_name(config.model)} seed {config.seed}"
    tags = (tracking.tags or {}) | provenance.code(PROJECT_ROOT)
    tags["command"] = provenance.command(own(overrides))
    tags |= start.tags() | _place_in_sweep(config.sweep, overrides)
    client, created = store.create_run(
        root=PROJECT_ROOT, uri=tracking.uri, experiment=tracking.experiment, name=name, tags=tags
    )
    return TrackedRun(client, created, staging=PROJECT_ROOT / "mlruns" / "staging")


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
