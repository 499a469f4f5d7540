"""The composition root: configuration in, metrics out."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from foretrace import optimization, progress, summary
from foretrace.config import PROJECT_ROOT, parse
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.statistics import Statistics
from foretrace.errors import InputError
from foretrace.evaluation.one_step import evaluate_one_step, forecast_episode
from foretrace.figures import forecasts, learning
from foretrace.forecaster import TRAIN_LOSS, VALID_MSE, Forecaster
from foretrace.model.next_step import count_parameters
from foretrace.quiet import quiet_libraries
from foretrace.settings import SimulatedData, TrainConfig
from foretrace.tracking import provenance, store
from foretrace.tracking.logger import BatchLoss, RunLogger
from foretrace.tracking.run import TrackedRun

PICTURED_STEPS = 200  # of the first test episode: as many columns as a picture shows apart


def run(
    cfg: TrainConfig | DictConfig | Mapping[str, Any], *, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """Trains, evaluates and records one model.

    Args:
        cfg: The configuration, as composed from ``conf/train.yaml`` or checked already.
        overrides: What the user asked for beside the defaults, for the record.

    Returns:
        The final metrics by the names under which they are tracked.

    Raises:
        InputError: If something that the user gave cannot be used; then there is no run.
    """
    config = cfg if isinstance(cfg, TrainConfig) else parse(cfg)
    quiet_libraries()
    optimization.check(**_optimization(config))
    sources.check(config.data)
    # What the user brings is read before there is a run: whatever is wrong with it leaves nothing behind.
    data = None if isinstance(config.data, SimulatedData) else _load(config)
    tracked, metrics = _begin(config, overrides), dict[str, float]()
    try:
        with tracked:
            metrics = _train(config, data or _load(config), tracked)
    finally:
        print(summary.last_line(tracked.id, tracked.status, metrics), flush=True)
    return metrics


def _train(config: TrainConfig, data: WindowDataModule, tracked: TrackedRun) -> dict[str, float]:
    started = time.monotonic()
    lightning.seed_everything(config.seed, verbose=False)
    forecaster = _forecaster(config, data)
    trainer, best = _trainer(config, tracked)
    device = trainer.strategy.root_device
    _record(config, data, forecaster, device, tracked)
    parameters = count_parameters(forecaster.model)
    print(
        f"{summary.data(config.data.source, data)}\n{summary.parameters(parameters)}\ndevice   {device}",
        flush=True,
    )

    trainer.fit(forecaster, datamodule=data)
    trained = time.monotonic()

    epoch = _load_best(forecaster, best)
    metrics = {VALID_MSE: float(best.best_model_score or torch.nan)}
    print(f"weights  of epoch {epoch}, the best on validation data (MSE {metrics[VALID_MSE]:.6f})")
    metrics |= _test(data, forecaster.to(device), tracked)
    tracked.metrics({"best epoch": epoch}, step=epoch)
    tracked.flush()
    tracked.figures(_figures(data, forecaster, tracked, best_epoch=epoch))
    times = {"training": trained - started, "evaluation and figures": time.monotonic() - trained}
    print(summary.whereabouts(tracked.id, tracked.folder, times))
    return metrics


def _load(config: TrainConfig) -> WindowDataModule:
    settings = config.data
    told = progress.simulation if config.trainer.progress else None
    splits = sources.load(settings, cache=PROJECT_ROOT / ".cache", progress=told)
    try:
        return WindowDataModule(
            splits,
            window=settings.window,
            stride=settings.stride,
            batch_size=settings.batch_size,
            seed=config.seed,
            random_offset=settings.random_offset,
        )
    except ValueError as error:
        raise InputError(
            "data.window", expected="episodes longer than a window", received=str(error)
        ) from error


def _begin(config: TrainConfig, overrides: Sequence[str]) -> TrackedRun:
    tracking, model = config.tracking, config.model
    widths = "-".join(str(width) for width in model.hidden_sizes)
    name = tracking.run_name or f"{config.data.source} {widths} {model.output} seed {config.seed}"
    tags = (tracking.tags or {}) | provenance.code(PROJECT_ROOT) | {"command": provenance.command(overrides)}
    client, created = store.create_run(
        root=PROJECT_ROOT, uri=tracking.uri, experiment=tracking.experiment, name=name, tags=tags
    )
    return TrackedRun(client, created, staging=PROJECT_ROOT / "mlruns" / "staging")


def _forecaster(config: TrainConfig, data: WindowDataModule) -> Forecaster:
    train = data.windows["train"].sequences
    features = {
        "names": list(train.feature_names),
        "units": list(train.units),
        "known": list(train.known_names),
        "dt_s": train.dt_s,
        "digest": train.digest,
    }
    batches = config.trainer.max_epochs * len(data.train_dataloader())
    forecaster = Forecaster(
        features=features,
        model=config.model.model_dump(),
        loss=config.loss.model_dump(),
        **_optimization(config, total_steps=batches),
    )
    forecaster.set_statistics(Statistics.of(train))
    return forecaster


def _optimization(config: TrainConfig, *, total_steps: int = 1) -> dict[str, Any]:
    scheduler = config.scheduler.model_dump() if config.scheduler else None
    if scheduler and scheduler.get("total_steps", total_steps) is None:
        scheduler["total_steps"] = total_steps
    return {"optimizer": config.optimizer.model_dump(), "scheduler": scheduler}


def _trainer(config: TrainConfig, tracked: TrackedRun) -> tuple[Trainer, ModelCheckpoint]:
    settings = config.trainer
    best = ModelCheckpoint(
        dirpath=tracked.folder / "checkpoints",
        filename="best",
        monitor=VALID_MSE,
        save_last=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [BatchLoss(tracked, TRAIN_LOSS), best]
    if settings.progress:
        callbacks.append(progress.TrainingBar())
    if settings.early_stopping:
        callbacks.append(EarlyStopping(VALID_MSE, **settings.early_stopping.model_dump()))
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=settings.max_epochs,
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip,
        logger=RunLogger(tracked),
        callbacks=callbacks,
        enable_progress_bar=settings.progress,
        enable_model_summary=False,  # ours counts trainable and frozen apart
        log_every_n_steps=1,
        num_sanity_val_steps=0,  # the first validation is an epoch away at most
    )
    return trainer, best


def _record(
    config: TrainConfig,
    data: WindowDataModule,
    forecaster: Forecaster,
    device: torch.device,
    tracked: TrackedRun,
) -> None:
    """Everything that it takes to know, and to get again, what this run is."""
    settings = config.model_dump(
        exclude={"tracking": {"uri"}}
    )  # a tracking server's address may hold a password
    tracked.params(_flat(settings))
    tracked.text("config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    environment, machine = provenance.environment(), provenance.machine(device)
    tracked.tags({f"version.{name}": version for name, version in environment.items()} | machine)
    tracked.text("provenance/installed.txt", provenance.installed())
    if patch := provenance.difference(PROJECT_ROOT):
        tracked.text("provenance/uncommitted.patch", patch)
    counts = count_parameters(forecaster.model)
    tracked.text("parameters.txt", summary.parameters(counts) + "\n")
    trainable, frozen = (sum(column) for column in zip(*counts.values(), strict=True))
    tracked.metrics({"parameters/trainable": trainable, "parameters/frozen": frozen}, step=0)
    for part, windows in data.windows.items():
        sequences = windows.sequences
        schema = {
            "features": sequences.feature_names,
            "units": sequences.units,
            "known": sequences.known_names,
        }
        profile = {
            "episodes": len(sequences),
            "rows": sequences.num_rows,
            "windows": len(windows),
        } | sequences.notes
        tracked.dataset(
            f"{config.data.source} {part}",
            digest=sequences.digest[:36],  # MLflow's limit
            origin=json.dumps({"origin": sequences.origin, "sha256": sequences.digest}),
            schema=json.dumps(schema),
            profile=json.dumps(profile | {"dt_s": sequences.dt_s}),
            context={"train": "training", "valid": "validation", "test": "testing"}[part],
        )
    tracked.text("data_statistics.json", json.dumps(_statistics(data), indent=1))


def _load_best(forecaster: Forecaster, best: ModelCheckpoint) -> int:
    checkpoint = torch.load(best.best_model_path, weights_only=True, map_location="cpu")
    forecaster.load_state_dict(checkpoint["state_dict"])
    return int(checkpoint["epoch"])


def _test(data: WindowDataModule, forecaster: Forecaster, tracked: TrackedRun) -> dict[str, float]:
    if "test" not in data.windows:
        print(f"test     not done: {data.test_missing}")
        tracked.tags({"test": f"not done: {data.test_missing}"})
        return {}
    windows = data.windows["test"]
    evaluation = evaluate_one_step(
        forecaster.model, data.test_dataloader(), feature_names=windows.sequences.feature_names
    )
    tracked.metrics(evaluation.metrics(), step=0)
    print(summary.result(evaluation, windows=len(windows), length=windows.length))
    return evaluation.metrics()


def _figures(
    data: WindowDataModule, forecaster: Forecaster, tracked: TrackedRun, *, best_epoch: int
) -> Iterator[tuple[str, Figure]]:
    batches, losses = tracked.history(TRAIN_LOSS)
    yield "train_loss_by_batch", learning.loss_by_batch(batches, losses, name=TRAIN_LOSS)
    epochs, train = tracked.history(f"{TRAIN_LOSS}/epoch")
    valid, rates = tracked.history(VALID_MSE)[1], tracked.history("lr")[1]
    yield (
        "error_by_epoch",
        learning.error_by_epoch(epochs, train=train, valid=valid, lr=rates, best_epoch=best_epoch),
    )

    sequences = data.windows.get("test", data.windows["valid"]).sequences
    prediction, truth = forecast_episode(forecaster.model, sequences, 0, max_steps=PICTURED_STEPS)
    names, scaling = sequences.feature_names, forecaster.model.scaling
    mean, scale = scaling.mean.cpu().numpy(), scaling.scale.cpu().numpy()
    scaled = [(raw - mean) / scale for raw in (prediction, truth)]
    title = f"{sequences.episode_names[0]}, one step ahead"
    yield (
        "prediction_and_truth",
        forecasts.prediction_and_truth(*scaled, feature_names=names, dt_s=sequences.dt_s, title=title),
    )
    yield (
        "features",
        forecasts.feature_lines(
            prediction, truth, feature_names=names, units=sequences.units, dt_s=sequences.dt_s, title=title
        ),
    )


def _statistics(data: WindowDataModule) -> dict[str, dict[str, list[float]]]:
    """Per part and feature, for whoever wonders whether the parts are alike."""
    parts = {part: Statistics.of(windows.sequences) for part, windows in data.windows.items()}
    return {
        part: {name: array.tolist() for name, array in vars(found).items()} for part, found in parts.items()
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
