"""Training from beginning to end: settings in, a tracked run and its metrics out."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig

from foretrace.commands.record import create_run, evaluate_and_report, log_curves, record
from foretrace.commands.resume import StartPoint, resolve_start
from foretrace.config import TrainConfig
from foretrace.data import sources
from foretrace.data.progress import show_progress
from foretrace.data.sources import WindowDataModule
from foretrace.errors import DivergedError, Interrupted, UserError, sanitize
from foretrace.model.next_step import count_parameters
from foretrace.reports import console
from foretrace.serving.ancestor import begin_from, find_ancestor
from foretrace.serving.model_file import MODEL, ModelCard, write_mlflow_model
from foretrace.serving.predictor import Predictor
from foretrace.sweeps.jobs import own
from foretrace.tracking.logger import BatchLoss, RunLogger
from foretrace.tracking.redaction import redact
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.signals import Signals
from foretrace.training.callbacks import Diagnostics, TrainingBar
from foretrace.training.checkpoint_io import load_best
from foretrace.training.checkpoints import TimeIsUpError
from foretrace.training.distributed import DistributedEnv
from foretrace.training.hardware import resolve_precision, retain_freed_memory, unusable_gpu
from foretrace.training.log_filters import filter_library_logs
from foretrace.training.module import TRAIN_LOSS, VALID_MSE, Forecaster, build_module
from foretrace.training.process_group import all_gather, broadcast, plan_processes, process_group
from foretrace.training.trainer import build_trainer
from foretrace.workspace import Workspace


def run(
    cfg: TrainConfig | DictConfig,
    *,
    overrides: Sequence[str] = (),
    workspace: Workspace,
    callbacks: Sequence[Callback] = (),
    evaluate: bool = True,
) -> dict[str, float]:
    """Train, evaluate and record one model; or resume a run, or repeat one.

    Args:
        cfg: Settings as composed from ``conf/train.yaml``; or a new run's, checked already (see `resolve_start`).
        overrides: What the user typed, for the record.
        workspace: Where runs and caches lie.
        callbacks: Further ones, which rank 0 has.
        evaluate: Whether to evaluate the model and draw its report.

    Returns:
        The final metrics by the names under which they are tracked.

    Raises:
        UserError: If something that the user gave cannot be used; then there is no run.
    """
    filter_library_logs()
    if DistributedEnv.from_environ().rank:
        return work(workspace)
    start = resolve_start(cfg, overrides=overrides, workspace=workspace)
    config, workspace = start.config, start.workspace
    precision, why = resolve_precision(config.trainer.precision)
    env = plan_processes(config.trainer.devices, batch_size=config.data.batch_size)
    with show_progress(config.trainer.progress):
        data = sources.load(config.data, cache=workspace.cache, seed=config.seed)
    start.check(precision, data)
    train = data.windows["train"].sequences
    ancestor = None if start.checkpoint else find_ancestor(config.model, train, workspace)
    tracked = start.run or create_run(
        config.tracking, own(overrides), workspace, name=default_name(config), tags=_labels(start)
    )
    with last_words(tracked, config) as metrics, tracked:
        plan = Plan(config, precision, start.checkpoint)
        watching = [*_watch(config, data, tracked, workspace), *callbacks]
        job = Job.build(plan, data, env, tracked.signals, tracked, watching)
        if ancestor:
            begin_from(ancestor, job.module.model, tracked)
        record(start, data, job.module, job.trainer, tracked)
        _announce(job, f"{precision} ({why})")
        began = time.monotonic()
        with process_group(env, worker=partial(work, workspace)):
            broadcast(plan)
            job.fit()
        trained = time.monotonic()
        metrics |= _conclude(job, tracked, evaluate=evaluate)
        if config.tracking.csv:
            log_curves(tracked)
        spent = {"training": trained - began, "evaluation and pictures": time.monotonic() - trained}
        print(console.whereabouts(tracked.id, tracked.folder, spent, address=tracked.address))
    return metrics


@contextmanager
def last_words(tracked: TrackedRun, config: TrainConfig) -> Iterator[dict[str, float]]:
    """Print the line for scripts once the run has ended, and how to resume it; gives the metrics to fill in."""
    metrics: dict[str, float] = {}
    can_be_resumed = not config.sweep.parent
    try:
        yield metrics
    except DivergedError:
        can_be_resumed = False  # it would come to the same end
        raise
    finally:
        if tracked.status in ("KILLED", "FAILED") and can_be_resumed:
            print(f"to resume: python src/train.py resume={tracked.id}", flush=True)
        if tracked.status != "RUNNING":  # else it never was ours
            print(console.last_line(tracked.id, tracked.status, metrics), flush=True)


class Plan(NamedTuple):
    """What all processes train that train together."""

    config: TrainConfig
    precision: str
    checkpoint: Path | None


@dataclass(frozen=True)
class Job:
    """What one process trains: the module on its data, by its trainer."""

    plan: Plan
    data: WindowDataModule
    module: Forecaster
    trainer: Trainer

    @classmethod
    def build(
        cls,
        plan: Plan,
        data: WindowDataModule,
        env: DistributedEnv,
        signals: Signals,
        tracked: TrackedRun | None = None,
        watching: Sequence[Callback] = (),
    ) -> "Job":
        """Return the module at its beginning, and its trainer."""
        # Not Lightning's `seed_everything`: it changes the environment, while threads of the run read it.
        torch.manual_seed(plan.config.seed)
        trainer = build_trainer(
            plan.config.trainer,
            precision=plan.precision,
            run=tracked,
            signals=signals,
            env=env,
            watching=watching,
            logger=RunLogger(tracked) if tracked else None,
        )
        return cls(plan, data, build_module(plan.config, data), trainer)

    def fit(self) -> None:
        """Train to the end, or for as long as the settings allow.

        Raises:
            UserError: If the processes that train together have different data.
        """
        trainer, data, checkpoint = self.trainer, self.data, self.plan.checkpoint
        digest = data.windows["train"].sequences.digest
        for rank, theirs in enumerate(all_gather(digest)):
            if theirs != digest and trainer.is_global_zero:
                raise UserError(f"data: not the same in all processes, as process {rank + 1} says: {theirs}")
        with retain_freed_memory(trainer.strategy.root_device):
            try:
                trainer.fit(self.module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            except TimeIsUpError as stop:
                if trainer.is_global_zero:
                    print(f"stopped  {stop}; resume=<id> continues", flush=True)


def work(workspace: Workspace) -> dict[str, float]:
    """Train along with rank 0, which alone keeps a record, and end with it.

    Raises:
        SystemExit: If training ended early. Rank 0 says why.
    """
    filter_library_logs()
    env, signals = DistributedEnv.from_environ(), Signals(quiet=True)
    signals.deferred = True  # the processes agree on when to obey
    signals.install()
    try:
        with process_group(env):
            plan = broadcast(None)
            try:
                data = sources.load(plan.config.data, cache=workspace.cache, seed=plan.config.seed)
            except UserError as error:
                all_gather(str(error))  # in place of the digest, see `Job.fit`
                sys.exit(1)
            Job.build(plan, data, env, signals).fit()
    except Interrupted as interruption:
        sys.exit(interruption.exit_status)
    except (ChildProcessError, DivergedError):
        sys.exit(1)
    return {}


def _watch(
    config: TrainConfig, data: WindowDataModule, tracked: TrackedRun, workspace: Workspace
) -> list[Callback]:
    """Return what rank 0 alone does while it trains."""
    watching: list[Callback] = [BatchLoss(tracked, TRAIN_LOSS)]
    if every := config.trainer.diagnose_every:
        watching.insert(0, Diagnostics(data.windows["valid"], every_n_epochs=every))
    if config.sweep.parent is not None and config.sweep.trial is not None:
        from foretrace.sweeps.search import TrialPruner  # needs Optuna

        watching.append(TrialPruner(workspace, sweep=config.sweep.parent, number=config.sweep.trial))
    return [*watching, TrainingBar()] if config.trainer.progress else watching


def _announce(job: Job, precision: str) -> None:
    """Say what is trained on which data, and what computes it."""
    print(console.data(job.plan.config.data.source, job.data))
    print(console.parameters(count_parameters(job.module.model)).text())
    if reason := unusable_gpu():
        print(f"warning  the GPU is not used: {reason}", file=sys.stderr, flush=True)
    device, processes = job.trainer.strategy.root_device, job.trainer.world_size
    shared = f" in each of {processes} processes" if processes > 1 else ""
    print(f"device   {device}{shared}, {precision}", flush=True)


def _conclude(job: Job, tracked: TrackedRun, *, evaluate: bool) -> dict[str, float]:
    """Keep and evaluate the best model; of a search's trial that was given up, return its validation error alone."""
    config, module, trainer = job.plan.config, job.module, job.trainer
    epoch, score = load_best(module, tracked.folder / "checkpoints")
    metrics = {} if score is None else {VALID_MSE: score}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Diagnostics):
            print(*(f"inside   {line}" for line in callback.lines()), sep="\n")
        elif (epoch_pruned := getattr(callback, "pruned_at", None)) is not None:
            told = f"at epoch {epoch_pruned}"
            print(f"pruned   {told}, as worse than most trials ({VALID_MSE} {score:.6f})")
            tracked.set_tags({"pruned": told})
            return metrics  # its test error is nobody's business
    what = "not validated yet" if score is None else f"the best on validation data (MSE {score:.6f})"
    print(f"weights  of epoch {epoch}, {what}", flush=True)
    tracked.log_metrics({"best epoch": epoch}, step=trainer.current_epoch)
    calibration = None
    if evaluate:
        model = module.model.to(trainer.strategy.root_device)
        with show_progress(config.trainer.progress):
            found, calibration = evaluate_and_report(
                model, job.data, tracked, config.evaluation, title=default_name(config)
            )
        metrics |= found
    card = ModelCard.from_training(module.hparams["features"], module.hparams["model"])
    card = card.model_copy(update={"run_id": tracked.id})
    write_mlflow_model(tracked.folder / MODEL, Predictor(card, module.model, calibration))
    return metrics


def _labels(start: StartPoint) -> dict[str, str]:
    """Return a new run's tags: what it repeats, whether it is a trial, and its place in a sweep."""
    config, sweep, tags = start.config, start.config.sweep, dict[str, str]()
    if start.repeated:
        tags["rerun_of"] = start.repeated.id
    if config.trainer.limit_batches:
        tags["trial"] = f"trainer.limit_batches={config.trainer.limit_batches}: its errors mean nothing"
    if sweep.parent is not None:  # by these a sweep finds its jobs again
        tags |= {MLFLOW_PARENT_RUN_ID: sweep.parent, "sweep.job": json.dumps(own(start.overrides))}
        tags |= {} if sweep.trial is None else {"sweep.trial": str(sweep.trial)}
    return tags


def default_name(config: TrainConfig) -> str:
    """Return data, network and seed in a few characters; of recordings their file, folder or pattern."""
    path = str(getattr(config.data, "path", None) or getattr(config.data, "root", None) or "")
    name = redact(path).partition("?")[0].rstrip("/").rpartition("/")[2]
    data = sanitize(name, longest=60) or config.data.source
    layers = "-".join(map(str, config.model.hidden_sizes))
    return f"{data} {layers} {config.model.output} seed {config.seed}"
