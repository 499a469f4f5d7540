"""What benchmarks/gpu.py times: steps of the network, of Lightning and of cuDNN, and how a time is taken."""

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # before CUDA: without it LSTMs differ from run to run
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from foretrace.config.data import Windowing
from foretrace.data.sequences import Sequences
from foretrace.data.sources import WindowDataModule
from foretrace.data.splits import Splits
from foretrace.model.next_step import NextStepModel
from foretrace.training.cuda_graphs import Graphed
from foretrace.training.module import Forecaster, TrainingForecasts

FEATURES, LENGTH, WARM = 17, 50, 3
Row = dict[str, Any]
Step = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        device: Where.
        hidden_sizes: The default network.
        batches: Windows in a step, from few to many.
        small: Widths of networks of one layer, with 32 windows in a step.
        starts: Rollouts side by side.
        steps: In one timing.
        repeats: Timings.
    """

    device: torch.device
    hidden_sizes: Sequence[int] = (128, 256, 512)
    batches: Sequence[int] = (64, 256, 1024, 4096, 16384)
    small: Sequence[int] = (32, 64, 128)
    starts: Sequence[int] = (144, 4096)
    steps: int = 20
    repeats: int = 5

    @property
    def on_gpu(self) -> bool:
        """Whether the figures are worth keeping."""
        return self.device.type == "cuda"

    @classmethod
    def on_this_machine(cls) -> "Plan":
        """Return the plan for this machine: in full on a GPU, in small on a CPU."""
        if torch.cuda.is_available():
            return cls(torch.device("cuda"))
        return cls(torch.device("cpu"), (8, 8), (4, 16), (4,), (8,), steps=3, repeats=2)


class Bare(nn.Module):
    """cuDNN called with nothing around it: the same layers."""

    def __init__(self, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        widths = [FEATURES, *hidden_sizes]
        pairs = pairwise(widths)
        self.layers = nn.ModuleList(nn.LSTM(below, width, batch_first=True) for below, width in pairs)
        self.head = nn.Linear(widths[-1], FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """Return forecasts (B, T, F) of windows (B, T, F)."""
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x)


class Clock(Callback):
    """Seconds of a training step of Lightning's, without the first ones."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Take the time when all that was launched until then is done."""
        if trainer.global_step == WARM:
            synchronize(trainer.strategy.root_device)
            self._began = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the mean."""
        synchronize(trainer.strategy.root_device)
        self.step_s = (time.perf_counter() - self._began) / (trainer.global_step - WARM)


class Generators(Callback):
    """States of the random numbers in each checkpoint, as dropout draws from them."""

    def on_save_checkpoint(self, *arguments: Any) -> None:
        """Add them."""
        arguments[-1]["generators"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    def on_load_checkpoint(self, *arguments: Any) -> None:
        """Note them."""
        self.states = arguments[-1]["generators"]

    def on_train_start(self, *_: Any) -> None:
        """Restore them after all else was built."""
        if hasattr(self, "states"):
            torch.set_rng_state(self.states[0])
            torch.cuda.set_rng_state_all(self.states[1:])


class CutError(Exception):
    """Ends a run in the middle."""


class CutAt(Callback):
    """Writes a checkpoint after a step, and ends the run there."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Do it."""
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise CutError


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(plan: Plan, step: Step) -> list[float]:
    """Return seconds of a step, one for each repeat."""
    for _ in range(WARM):
        step()
    found = []
    for _ in range(plan.repeats):
        synchronize(plan.device)
        began = time.perf_counter()
        for _ in range(plan.steps):
            step()
        synchronize(plan.device)
        found.append((time.perf_counter() - began) / plan.steps)
    return found


def kernel_s(plan: Plan, step: Step) -> float | None:
    """Return seconds a step that kernels are at work; None on a CPU."""
    if not plan.on_gpu:
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(plan.steps):
            step()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profiled.key_averages()) / plan.steps / 1e6


def row(name: str, values: Sequence[float], unit: str = "", *, aim: str = "", note: str = "") -> Row:
    """Return a line of the table."""
    return {
        "name": name,
        "aim": aim,
        "values": list(values),
        "unit": unit,
        "note": note,
        "processor": processor(),
    }


def processor() -> str:
    """Return the name of what computes."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()} (CPU)"


def milliseconds(seconds: Sequence[float]) -> str:
    """Return the median."""
    return f"{1000 * float(np.median(seconds)):.3g} ms"


def allow_tf32(allowed: bool) -> None:
    """Say in which arithmetic products of fp32 are computed."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def recordings(plan: Plan) -> Sequences:
    """Return smooth random episodes, as long as those of the default data."""
    generator = np.random.default_rng(0)
    episodes, rows = (128, 1001) if plan.on_gpu else (8, 101)
    steps = generator.normal(size=(episodes, rows, FEATURES))
    smooth = np.cumsum(steps, axis=1) / np.sqrt(np.arange(1, rows + 1))[:, None]
    return Sequences.from_episodes(list(smooth), feature_names=[f"x{n}" for n in range(FEATURES)], dt_s=0.01)


def data_module(plan: Plan, batch: int) -> WindowDataModule:
    """Return the windows as a run has them."""
    part = recordings(plan)
    splits = Splits(train=part, valid=part, test=part)
    cut = Windowing(window=LENGTH, stride=LENGTH, batch_size=batch, random_offset=True)
    return WindowDataModule(splits, cut, seed=1)


def forecaster(
    hidden_sizes: Sequence[int], *, dropout: float = 0.0, horizon: int | None = None
) -> Forecaster:
    """Return the module that a run trains."""
    open_loop = None if horizon is None else {"weight": 1.0, "horizon": horizon, "growth_epochs": 1}
    network = {"hidden_sizes": list(hidden_sizes), "dropout": dropout, "output": "change", "input_clip": None}
    return Forecaster(
        features={"names": [f"x{n}" for n in range(FEATURES)], "units": [""] * FEATURES, "covariates": [],
                  "dt_s": 0.01, "digest": ""},
        model=network | {"frozen": []},
        loss={"kind": "mse", "huber_delta": 1.0, "units": "scaled", "input_noise": 0.0, "open_loop": open_loop},
        optimizer={"name": "Adam", "lr": 0.001},
    )  # fmt: skip


def stepper(
    plan: Plan,
    model: nn.Module,
    batch: int,
    precision: str,
    *,
    graphed: bool = False,
    capturable: bool = False,
) -> Step:
    """Return a training step on tensors that are ready; forecasts and gradients launched as training does, or eager."""
    model.to(plan.device).train()
    forecasts = Graphed(TrainingForecasts(model, 0)) if graphed else None

    def forward(x: Tensor) -> Tensor:
        if forecasts:
            return forecasts(x, x[..., :0])["forecast"]
        return model.forward_scaled(x, x[..., :0])[0] if isinstance(model, NextStepModel) else model(x)

    fused = {"fused": True} if plan.on_gpu else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, capturable=capturable, **fused)
    x, target = torch.randn(2, batch, LENGTH, FEATURES, device=plan.device).unbind()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(plan.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.mse_loss(forward(x).float(), target)
        loss.backward()
        optimizer.step()

    return step


def lightning_s(plan: Plan, hidden_sizes: Sequence[int], batch: int, precision: str) -> list[float]:
    """Return seconds of a step of the module, the data path and Lightning's loop together."""
    found = []
    for _ in range(plan.repeats):
        clock, data = Clock(), data_module(plan, batch)
        steps = min(plan.steps + WARM, 10 * len(data.train_dataloader()))
        fit(plan, forecaster(hidden_sizes), data, steps, callbacks=[clock], precision=precision)
        found.append(clock.step_s)
    return found


def fit(plan: Plan, module: Forecaster, data: WindowDataModule, steps: int, *, callbacks: list[Callback],
        precision: str = "32", checkpoint: Path | None = None) -> None:  # fmt: skip
    """Train for so many steps."""
    Trainer(
        accelerator="gpu" if plan.on_gpu else "cpu",
        devices=1,
        max_steps=steps,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        limit_val_batches=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def compiled(plan: Plan, model: NextStepModel) -> Step:
    """Return a step whose forward and backward pass are compiled."""
    model.compile(backend="inductor" if plan.on_gpu else "aot_eager")
    model.forward_scaled = torch.compile(  # type: ignore[method-assign]
        model.forward_scaled, backend="inductor" if plan.on_gpu else "aot_eager"
    )
    return stepper(plan, model, 32, "fp32")


def graph(step: Step) -> Step:
    """Return a step that is launched as a whole."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    return captured.replay
