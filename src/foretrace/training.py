"""What a training consists of: the module, and Lightning's trainer with what watches and keeps it."""

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging

from foretrace import optimization, progress
from foretrace.checkpoints import Checkpoints, WholeFiles
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.statistics import Statistics
from foretrace.diagnostics import Diagnostics
from foretrace.forecaster import TRAIN_LOSS, VALID_MSE, Forecaster
from foretrace.precision import choose
from foretrace.settings import TrainConfig
from foretrace.tracking.logger import BatchLoss, RunLogger
from foretrace.tracking.run import TrackedRun


def make_forecaster(config: TrainConfig, data: WindowDataModule) -> Forecaster:
    """The module at its beginning, with the scaling of its training data."""
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
        **optimization.chosen(config, total_steps=batches),
    )
    forecaster.set_statistics(Statistics.of(train))
    return forecaster


def make_trainer(
    config: TrainConfig, data: WindowDataModule, tracked: TrackedRun, pruner: Callback | None
) -> tuple[Trainer, Checkpoints, Diagnostics | None]:
    """Lightning's trainer with our callbacks, and those of them that are asked afterwards."""
    settings = config.trainer
    checkpoints = Checkpoints(tracked, monitor=VALID_MSE, every_minutes=settings.checkpoint_minutes)
    callbacks: list[Callback] = [BatchLoss(tracked, TRAIN_LOSS), checkpoints]
    callbacks += [pruner] if pruner else []
    diagnostics = None
    if settings.diagnose_every:
        diagnostics = Diagnostics(data.windows["valid"], every_n_epochs=settings.diagnose_every)
        callbacks.insert(0, diagnostics)
    if settings.weight_averaging:
        callbacks.append(EMAWeightAveraging(decay=settings.weight_averaging))
    if settings.progress:
        callbacks.append(progress.TrainingBar())
    if settings.early_stopping:
        # Judged before the checkpoint that follows a validation: that one is to hold the verdict.
        stopping = settings.early_stopping.model_dump()
        callbacks.append(EarlyStopping(VALID_MSE, check_on_train_epoch_end=False, **stopping))
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=settings.max_epochs,
        precision=choose(settings.precision).name,  # type: ignore[arg-type]  # a string, as Lightning lists them
        gradient_clip_val=settings.gradient_clip,
        logger=RunLogger(tracked),
        callbacks=callbacks,
        plugins=[
            WholeFiles(),
            LightningEnvironment(),
        ],  # a cluster's own is not asked: it would requeue by itself
        enable_progress_bar=settings.progress,
        enable_model_summary=False,  # ours counts trainable and frozen apart
        log_every_n_steps=1,
        num_sanity_val_steps=0,  # the first validation is an epoch away at most
    )
    return trainer, checkpoints, diagnostics
