"""A training step of the whole program, of bare PyTorch, and of Lightning with a DataLoader and MLflow as they come."""

import io
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger
from speed_rows import ROOT, SMALL, Row, folder, in_turn, milliseconds, ratios, settings
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from foretrace.commands import train
from foretrace.config import TrainConfig
from foretrace.data import sources
from foretrace.data.sources import WindowDataModule
from foretrace.data.windows import Windows
from foretrace.model.next_step import NextStepModel
from foretrace.training.hardware import resolve_precision
from foretrace.training.module import build_module
from foretrace.workspace import Workspace

WARM = 2  # steps before the clock starts


class Clock(Callback):
    """Seconds of a training step, without the first ones and what comes after the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Take the time: of the callbacks this is the last, so all that belongs to the step has been done."""
        self.ends.append(time.perf_counter())

    @property
    def step_s(self) -> float:
        """Mean."""
        return (self.ends[-1] - self.ends[WARM - 1]) / (len(self.ends) - WARM)


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Windows one by one, as a DataLoader wants them."""

    def __init__(self, windows: Windows, model: NextStepModel) -> None:
        self.places = windows.origins(torch.arange(len(windows))).numpy()
        self.length = windows.length
        self.first = windows.sequences.bounds[:, 0]
        self.values = model.scaling(torch.from_numpy(windows.sequences.values))

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return what is read, and what came a step later, each (T, F)."""
        episode, start = self.places[number]
        rows = self.values[self.first[episode] + start :][: self.length + 1]
        return rows[:-1], rows[1:]


class Stock(LightningModule):
    """The usual module: a loss that is logged at each step."""

    def __init__(self, model: NextStepModel) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error."""
        x, target = batch
        loss = F.mse_loss(self.model.forward_scaled(x, x[..., :0])[0], target)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As the bare loop's."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def load(config: TrainConfig) -> WindowDataModule:
    """Return the data as a run has them."""
    return sources.load(config.data, cache=ROOT / ".cache", seed=config.seed)


def whole_program(config: TrainConfig, root: Path) -> float:
    """Seconds a step of a run of its own, of one epoch, without what comes after the training."""
    clock = Clock()
    if not (root / ".cache").exists():
        (root / ".cache").symlink_to(ROOT / ".cache")  # simulated data
    with redirect_stdout(io.StringIO()):
        train.run(config, workspace=Workspace(root), callbacks=[clock], evaluate=False)
    return clock.step_s


def bare(config: TrainConfig, data: WindowDataModule, steps: int) -> float:
    """Seconds a step of forward, backward and Adam, on tensors that are ready."""
    model = build_module(config, data).model
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr)
    step = stepper(model, optimizer, mixed=resolve_precision(config.trainer.precision)[0] != "32-true")
    ready = list(_ready(model, data, min(steps, 20)))
    for batch in ready[:WARM]:
        step(*batch)
    began = time.perf_counter()
    for batch in islice(cycle(ready), steps):
        step(*batch)
    return (time.perf_counter() - began) / steps


def stepper(
    model: NextStepModel, optimizer: torch.optim.Optimizer, *, mixed: bool
) -> Callable[[Tensor, Tensor], None]:
    """One step on scaled values and targets."""

    def step(x: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = F.mse_loss(model.forward_scaled(x, x[..., :0])[0], target)
        loss.backward()
        optimizer.step()

    return step


def stock(config: TrainConfig, data: WindowDataModule, steps: int, root: Path) -> float:
    """Seconds a step of Lightning, DataLoader, progress bar and MLflow with their own settings."""
    model = build_module(config, data).model
    loader = DataLoader(Examples(data.windows["train"], model), config.data.batch_size, shuffle=True)
    clock = Clock()
    lightning_trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=steps + WARM,
        log_every_n_steps=1,
        logger=MLFlowLogger("speed", tracking_uri=f"sqlite:///{root / 'stock.db'}"),
        default_root_dir=root,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with patch.dict(os.environ):  # MLflow puts the address there, for whatever this process starts
        lightning_trainer.fit(Stock(model), loader)
    return clock.step_s


def rows(*, quick: bool) -> Iterator[Row]:
    """Those of a training step."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    name = "training step, whole program / bare PyTorch"
    few = ("data.batch_size=16", "data.episodes=10") if quick else ()
    for precision in ("32-true", "bf16-mixed"):
        config = settings("trainer.max_epochs=1", f"trainer.precision={precision}", *few)
        note = f"{_network(config)}, {precision}"
        yield _beside_bare(f"{name}, {note}", "≤ 1.03", config, steps=4 if quick else 8)
    config = settings("trainer.max_epochs=1", *SMALL)
    steps = 50 if quick else 400
    yield _beside_bare(f"{name}, {_network(config)}", "≤ 1.5", config, steps=steps)
    data = load(config)
    with folder() as root:
        theirs, least = in_turn(
            lambda: stock(config, data, steps // 2, root), lambda: bare(config, data, steps // 2)
        )
    told = f"{milliseconds(theirs)} / {milliseconds(least)}"
    yield Row(
        "the same with Lightning, DataLoader and MLflow as they come", "", ratios(theirs, least), note=told
    )


def _beside_bare(name: str, aim: str, config: TrainConfig, *, steps: int) -> Row:
    data = load(config)
    with folder() as root:
        ours, least = in_turn(lambda: whole_program(config, root), lambda: bare(config, data, steps))
    return Row(name, aim, ratios(ours, least), note=f"{milliseconds(ours)} / {milliseconds(least)}")


def _network(config: TrainConfig) -> str:
    widths = "-".join(map(str, config.model.hidden_sizes))
    return f"{widths}, {config.data.batch_size} windows of {config.data.window}"


def _ready(model: NextStepModel, data: WindowDataModule, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in islice(data.train_dataloader(), most):
        yield model.scaling(batch.values).contiguous(), model.scaling(batch.targets).contiguous()
