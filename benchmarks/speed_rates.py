"""Arithmetic, the data path, and a model that is asked step by step."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from speed_rows import Row, folder, in_turn, milliseconds, ratios, seconds_of, settings
from speed_steps import Examples, bare, load, stepper
from torch.utils.data import DataLoader

from foretrace.config import TrainConfig
from foretrace.data.windows import WindowLoader
from foretrace.model.next_step import NextStepModel
from foretrace.serving.model_file import ModelCard
from foretrace.serving.onnx import OnnxRunner, write_onnx
from foretrace.serving.predictor import Predictor
from foretrace.training.hardware import retain_freed_memory
from foretrace.training.module import build_module


def rows(*, quick: bool) -> Iterator[Row]:
    """Measure the four."""
    few = ("data.batch_size=16",) if quick else ()
    for precision, aim in (("32-true", "≥ 0.9"), ("bf16-mixed", "≥ 0.75")):
        yield _arithmetic(settings("trainer.max_epochs=1", f"trainer.precision={precision}", *few), aim)
    for width, batch in ((32, 32), (64, 64), (128, 64), (256, 128), (512, 256)):
        yield _precision(width, batch)
    yield from _data_path(settings("trainer.max_epochs=1"))
    yield from _streaming(settings("trainer.max_epochs=1"))


def _arithmetic(config: TrainConfig, aim: str) -> Row:
    """Measure a step's operations per second, memory kept as in a run, beside a product of its largest matrices."""
    data, batch = load(config), config.data.batch_size
    _, width = config.model.hidden_sizes[-2:]
    weights = [
        p.numel() for name, p in build_module(config, data).model.named_parameters() if "weight" in name
    ]
    operations = 3 * 2 * sum(weights) * batch * config.data.window
    kind = torch.float32 if config.trainer.precision == "32-true" else torch.bfloat16
    left, right = torch.randn(batch, width).to(kind), torch.randn(width, 4 * width).to(kind)
    product = 2 * batch * width * 4 * width
    with retain_freed_memory(torch.device("cpu")):
        steps, products = in_turn(
            lambda: bare(config, data, 4), lambda: seconds_of(lambda: left @ right, 200)
        )
    ours, most = (
        [count / s / 1e9 for s in times] for count, times in ((operations, steps), (product, products))
    )
    note = f"{np.median(ours):.0f} / {np.median(most):.0f} GFLOP/s, ({batch}×{width})·({width}×{4 * width})"
    return Row(f"arithmetic of a training step / of a matrix product, {config.trainer.precision}", aim,
               ratios(ours, most), note=note)  # fmt: skip


def _precision(width: int, batch: int) -> Row:
    """Time a bare step of one layer in both precisions: whether small networks lose by bf16."""
    x = torch.randn(batch, 50, 17)
    steps = []
    for mixed in (True, False):
        model = NextStepModel(hidden_sizes=[width], num_features=17)
        steps.append(stepper(model, torch.optim.Adam(model.parameters()), mixed=mixed))
        seconds_of(lambda step=steps[-1]: step(x, x), 3)
    mixed_s, whole_s = in_turn(
        *(lambda step=step: seconds_of(lambda: step(x, x), 5) for step in steps), repeats=15
    )
    note = f"{milliseconds(mixed_s)} / {milliseconds(whole_s)}"
    return Row(f"training step in bf16 / in fp32, one layer of {width}, {batch} windows of 50", "≤ 1",
               ratios(mixed_s, whole_s), note=note)  # fmt: skip


def _data_path(config: TrainConfig) -> Iterator[Row]:
    data = load(config)
    windows, batch = data.windows["train"], config.data.batch_size
    examples = Examples(windows, build_module(config, data).model)

    def ours() -> float:
        loader = WindowLoader(windows, batch_size=batch, seed=1, random_offset=True)
        return _epoch_s(lambda: [None for _ in loader]) / 20

    def theirs(workers: int) -> float:
        loader = DataLoader(
            examples, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        return _epoch_s(lambda: [None for _ in loader], 3) / 3

    best = min((0, 1, 2), key=theirs)
    mine, other = in_turn(ours, lambda: theirs(best))
    note = f"{len(windows) / np.median(mine):,.0f} / {len(windows) / np.median(other):,.0f} windows a second"
    yield Row(f"data path / a DataLoader with its best number of workers ({best} of 0, 1, 2)", "≥ 20",
              ratios(other, mine), note=note)  # fmt: skip


def _epoch_s(run: Callable[[], object], times: int = 20) -> float:
    """Of so many epochs, after one that is not counted."""
    run()
    began = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - began


def _streaming(config: TrainConfig) -> Iterator[Row]:
    """One sequence, a row at a time, the state carried."""
    forecaster = build_module(config, load(config))
    card = ModelCard.from_training(forecaster.hparams["features"], forecaster.hparams["model"])
    predictor, row = Predictor(card, forecaster.model.eval()), np.zeros((1, 17), np.float32)
    with folder() as root:
        write_onnx(root / "model.onnx", predictor)
        runner = OnnxRunner(root / "model.onnx")
        *_, torch_state = predictor.forecast_steps(row, predictor.start())
        *_, onnx_state = runner.forecast_steps(row, runner.start())
        by_torch, by_onnx = in_turn(
            lambda: seconds_of(lambda: predictor.forecast_steps(row, torch_state), 300),
            lambda: seconds_of(lambda: runner.forecast_steps(row, onnx_state), 300),
        )
    for name, times in (("foretrace.load, PyTorch", by_torch), ("the exported file, ONNX Runtime", by_onnx)):
        microseconds = [1e6 * s for s in times]
        yield Row(f"one step ahead of one row, {name}", "", microseconds, "µs", milliseconds(times))
