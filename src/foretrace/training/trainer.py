"""Lightning's trainer with our callbacks, the same in all processes that train together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer, callbacks
from lightning.pytorch.loggers import Logger

from foretrace.config import Trainer as TrainerSettings
from foretrace.tracking.signals import Signals
from foretrace.training.callbacks import Divergence
from foretrace.training.checkpoints import AtomicCheckpointIO, Checkpoints
from foretrace.training.distributed import DistributedEnv
from foretrace.training.module import VALID_MSE

if TYPE_CHECKING:
    from foretrace.tracking.run import TrackedRun

STEP_HOOKS = ("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
              "on_before_optimizer_step", "on_train_batch_end")  # fmt: skip


class StartedProcesses(LightningEnvironment):
    """Tells Lightning of processes that are there already, whoever started them: it starts and requeues none."""

    creates_processes_externally = True

    def __init__(self, env: DistributedEnv) -> None:
        super().__init__()
        self._env = env

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._env.world_size

    def global_rank(self) -> int:
        """Return this process's rank."""
        return self._env.rank

    def local_rank(self) -> int:
        """Return its rank on this machine."""
        return self._env.local_rank

    def node_rank(self) -> int:
        """Return the machine's rank."""
        return self._env.rank // self._env.local_world_size


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, but a resumed run may have another patience."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what it has seen; the patience is a setting."""
        super().load_state_dict({**state_dict, "patience": self.patience})


def build_trainer(
    settings: TrainerSettings,
    *,
    precision: str,
    run: "TrackedRun | None",
    signals: Signals,
    env: DistributedEnv,
    watching: Sequence[Callback],
    logger: Logger | None,
) -> Trainer:
    """Return Lightning's trainer; its ``checkpoint_callback`` is our `Checkpoints`.

    A process that keeps no record has no run and no logger; callbacks that it has alone are ``watching``.
    """
    every, most = settings.checkpoint_minutes, settings.max_minutes
    saving = Checkpoints(run, signals, every_minutes=every, max_minutes=most)
    ours: list[Callback] = [Divergence(run), *watching, saving]
    if settings.ema_decay:
        ours.append(callbacks.EMAWeightAveraging(decay=settings.ema_decay))
    if settings.early_stopping:
        # Checked before the checkpoint that follows a validation: that one is to hold the verdict.
        stopping = settings.early_stopping.model_dump()
        ours.append(EarlyStopping(VALID_MSE, check_on_train_epoch_end=False, **stopping))
    trainer = Trainer(
        accelerator="auto",
        strategy="ddp" if env.world_size > 1 else "auto",
        devices=env.local_world_size,
        num_nodes=env.world_size // env.local_world_size,
        max_epochs=settings.max_epochs,
        limit_train_batches=settings.limit_batches,
        limit_val_batches=settings.limit_batches,
        precision=precision,  # type: ignore[arg-type]  # a string, as Lightning lists them
        gradient_clip_val=settings.gradient_clip,
        logger=logger or False,
        callbacks=ours,
        plugins=[AtomicCheckpointIO(), StartedProcesses(env)],
        enable_progress_bar=any(isinstance(callback, callbacks.ProgressBar) for callback in watching),
        enable_model_summary=False,  # ours counts trainable and frozen apart
        log_every_n_steps=1,
        num_sanity_val_steps=0,  # the first validation is an epoch away at most
    )
    # Lightning enters a context of its profiler around each hook of each callback, also where it does nothing: at every
    # step of a small model, a twentieth of its time. It passes over what cannot be called.
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
        for hook in STEP_HOOKS:
            if getattr(type(callback), hook) is getattr(Callback, hook):
                setattr(callback, hook, None)
    return trainer
