"""What recording and checkpoints cost, each against the same training without them, in turns."""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from reliability_checkout import temporary_folder

from foretrace.tracking.logger import BatchLoss, RunLogger
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.store import create_run
from foretrace.training.checkpoints import AtomicCheckpointIO, Checkpoints
from foretrace.training.log_filters import filter_library_logs
from foretrace.training.module import TRAIN_LOSS
from foretrace.workspace import CHECKOUT, Workspace

REPEATS = 5
_numbers = itertools.count()


class Job:
    """The data and the network of a training, as the command makes them.

    Args:
        overrides: Of ``conf/train.yaml``.
    """

    def __init__(self, *overrides: str) -> None:
        from hydra import compose, initialize_config_dir

        from foretrace.commands import cli
        from foretrace.config import TrainConfig, parse
        from foretrace.data import sources
        from foretrace.training.module import build_module

        assert cli.USAGE_ERROR  # imported for the resolver that it registers
        with initialize_config_dir(str(CHECKOUT / "conf"), version_base="1.3"):
            composed = compose("train", overrides=[*overrides, "trainer.progress=false"])
        self.config = parse.parse(composed, TrainConfig)
        self.data = sources.load(self.config.data, cache=Workspace.default().cache, seed=self.config.seed)
        self._make = build_module

    def train(self, root: Path, *, epochs: int, recorded: bool, checkpoints: bool = False) -> "Times":
        """Trains; says how long each batch and each checkpoint took, in seconds."""
        lightning.seed_everything(self.config.seed, verbose=False)
        times = Times()
        with _tracked(root) as tracked:
            callbacks: list[Callback] = [times]
            callbacks += [BatchLoss(tracked, TRAIN_LOSS)] if recorded else []
            if checkpoints:
                callbacks.append(TimedCheckpoints(tracked, times))
            Trainer(
                accelerator="cpu", max_epochs=epochs, callbacks=callbacks,
                logger=RunLogger(tracked) if recorded else False,
                plugins=[AtomicCheckpointIO()], enable_progress_bar=False, enable_model_summary=False,
                log_every_n_steps=1, num_sanity_val_steps=0, enable_checkpointing=checkpoints,
            ).fit(self._make(self.config, self.data), datamodule=self.data)  # fmt: skip
        return times


class Times(Callback):
    """Time from one batch's end to the next one's, within epochs."""

    def __init__(self) -> None:
        self.batches: list[float] = []
        self.checkpoints: list[float] = []
        self.epochs: list[float] = []
        self._batch = self._epoch = 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start a new clock."""
        self._batch = self._epoch = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Take the time of what came between two batches, e.g. recording, with the batch before it."""
        now = time.perf_counter()
        self.batches.append(now - self._batch)
        self._batch = now

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """With its validation and its checkpoint."""
        self.epochs.append(time.perf_counter() - self._epoch)


class TimedCheckpoints(Checkpoints):
    """Ours, with a clock."""

    def __init__(self, run: TrackedRun, times: Times) -> None:
        super().__init__(run, run.signals, every_minutes=1e9)
        self._times = times

    @property
    def state_key(self) -> str:
        """That of the class it stands for."""
        return Checkpoints.__qualname__

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Take the time."""
        began = time.perf_counter()
        super().on_validation_end(trainer, module)
        self._times.checkpoints.append(time.perf_counter() - began)


TINY = ("data.episodes=6", "data.steps=400", "data.window=10", "data.stride=10", "data.batch_size=4",
        "model.hidden_sizes=[16,16]", "trainer.diagnose_every=null", "evaluation={warmup: 8, horizon: 10}")  # fmt: skip
DEFAULT = ("data.episodes=24", "trainer.diagnose_every=null")


def recording_cost() -> dict[str, object]:
    """Compare a step with every batch's loss recorded to one without any record; medians of pairs in turns."""
    found: dict[str, object] = {}
    filter_library_logs()
    for name, overrides, epochs in (("tiny", TINY, 8), ("default", DEFAULT, 4)):
        job, pairs = Job(*overrides), []
        with temporary_folder() as root:
            job.train(root, epochs=1, recorded=False)
            for repeat in range(REPEATS):
                order = (True, False) if repeat % 2 else (False, True)
                steps = {
                    r: statistics.median(job.train(root, epochs=epochs, recorded=r).batches) for r in order
                }
                pairs.append((steps[True], steps[False]))
        ratios = sorted(recorded / bare for recorded, bare in pairs)
        bare_ms = 1000 * statistics.median(bare for _, bare in pairs)
        found[f"a step with every batch recorded / without any record, {name} network"] = (
            f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}; without: {bare_ms:.2f} ms)"
        )
    return found


def checkpoint_cost() -> dict[str, object]:
    """Compare a checkpoint an epoch to the same training without: share of the epoch, and time of one."""
    found: dict[str, object] = {}
    filter_library_logs()
    for name, overrides, epochs in (("tiny", TINY, 10), ("default", DEFAULT, 3)):
        job, pairs, ones, size = Job(*overrides), [], [], 0
        with temporary_folder() as root:
            job.train(root, epochs=1, recorded=True)
            for repeat in range(REPEATS):
                order = (True, False) if repeat % 2 else (False, True)
                runs = {c: job.train(root, epochs=epochs, recorded=True, checkpoints=c) for c in order}
                pairs.append(tuple(statistics.median(runs[c].epochs) for c in (True, False)))
                ones += runs[True].checkpoints
            size = max(path.stat().st_size for path in root.rglob("last.ckpt"))
        ratios = sorted(with_one / bare for with_one, bare in pairs)
        bare_ms = 1000 * statistics.median(bare for _, bare in pairs)
        found[f"size of a checkpoint, {name} network"] = f"{size / 1e6:.2f} MB"
        found[f"time of a checkpoint, {name} network"] = (
            f"{1000 * statistics.median(ones):.0f} ms ({1000 * min(ones):.0f} to {1000 * max(ones):.0f})"
        )
        found[f"an epoch with one / without, {name} network"] = (
            f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}; without: {bare_ms:.0f} ms)"
        )
    found["threads"] = torch.get_num_threads()
    return found


def _tracked(root: Path) -> TrackedRun:
    return create_run(Workspace(root), experiment="benchmark", name=str(next(_numbers)), tags={})
