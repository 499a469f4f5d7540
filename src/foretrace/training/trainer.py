"""What a training consists of, the same in all processes that train together: the module and Lightning's trainer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ProgressBar
from lightning.pytorch.loggers import Logger

from foretrace.config import TrainConfig
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.statistics import Statistics
from foretrace.tracking.null_run import NullRun
from foretrace.training import optimizers
from foretrace.training.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
from foretrace.training.callbacks.divergence import Divergence
from foretrace.training.forecaster import VALID_MSE, Forecaster
from foretrace.training.group import Group
from foretrace.training.place import Place
from foretrace.training.precision import choose

if TYPE_CHECKING:  # MLflow is not for processes that record nothing
    from foretrace.tracking.run import TrackedRun


class Started(LightningEnvironment):
    """Tells Lightning of processes that are there already, whoever started them: it starts none, and requeues none.

    Args:
        place: Of this process.
    """

    creates_processes_externally = True

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def world_size(self) -> int:
        """All processes."""
        return self._place.size

    def global_rank(self) -> int:
        """This one's number among them."""
        return self._place.rank

    def local_rank(self) -> int:
        """Its number among those of the same machine."""
        return self._place.local_rank

    def node_rank(self) -> int:
        """The machine's number."""
        return self._place.rank // self._place.local_size


def count_batches(config: TrainConfig, data: WindowDataModule) -> int:
    """Of the whole training."""
    return config.trainer.max_epochs * len(data.train_dataloader())


def make_forecaster(config: TrainConfig, data: WindowDataModule) -> Forecaster:
    """The module at its beginning, with the scaling of its training data."""
    train = data.windows["train"].sequences
    features = {
        "names": list(train.feature_names),
        "units": list(train.units),
        "covariates": list(train.covariate_names),
        "dt_s": train.dt_s,
        "digest": train.digest,
    }
    forecaster = Forecaster(
        features=features,
        model=config.model.network(),
        loss=config.loss.model_dump(),
        **optimizers.chosen(config, batches=count_batches(config, data)),
    )
    forecaster.set_statistics(Statistics.of(train))
    return forecaster


def make_trainer(
    config: TrainConfig,
    group: Group,
    run: "TrackedRun | NullRun",
    *,
    watching: Sequence[Callback] = (),
    logger: Logger | None = None,
) -> tuple[Trainer, Checkpoints]:
    """Lightning's trainer as every process of a group has it, and what keeps the best weights.

    Args:
        config: The settings.
        group: The processes that train together.
        run: Told of checkpoints.
        watching: What the first process has beside.
        logger: Told the figures of each epoch.
    """
    settings, place = config.trainer, group.place
    checkpoints = Checkpoints(run, group, monitor=VALID_MSE, every_minutes=settings.checkpoint_minutes)
    callbacks: list[Callback] = [Divergence(run), *watching, checkpoints]
    if settings.weight_averaging:
        callbacks.append(EMAWeightAveraging(decay=settings.weight_averaging))
    if settings.early_stopping:
        # Judged before the checkpoint that follows a validation: that one is to hold the verdict.
        stopping = settings.early_stopping.model_dump()
        callbacks.append(EarlyStopping(VALID_MSE, check_on_train_epoch_end=False, **stopping))
    trainer = Trainer(
        accelerator="auto",
        strategy="ddp" if place.size > 1 else "auto",
        devices=place.local_size,
        num_nodes=place.size // place.local_size,
        max_epochs=settings.max_epochs,
        precision=choose(settings.precision).name,  # type: ignore[arg-type]  # a string, as Lightning lists them
        gradient_clip_val=settings.gradient_clip,
        logger=logger or False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), Started(place)],
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in watching),
        enable_model_summary=False,  # ours counts trainable and frozen apart
        log_every_n_steps=1,
        num_sanity_val_steps=0,  # the first validation is an epoch away at most
    )
    return trainer, checkpoints
