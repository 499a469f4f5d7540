"""Speed, memory and exact resume on one GPU: python benchmarks/gpu.py [--output gpu.json] [--minutes 5].

Needs PyTorch, Lightning and this checkout, nothing installed: no MLflow, no Hydra, no simulator. Writes one JSON with
rows as those of docs/performance.json; ``make bench ARGS=gpu`` also writes them into the page. Where there is no GPU it
runs on the CPU in small, to see that it works. What does not fit into the minutes is skipped, and named.
"""

import argparse
import itertools
import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# isort: split
from gpu_steps import (  # first: it says where foretrace is
    FEATURES,
    LENGTH,
    Bare,
    CutAt,
    CutError,
    Generators,
    Plan,
    Row,
    Step,
    allow_tf32,
    compiled,
    data_module,
    fit,
    forecaster,
    graph,
    kernel_s,
    lightning_s,
    milliseconds,
    processor,
    recordings,
    row,
    stepper,
    timed,
)

# isort: split
import lightning
import torch
from torch import Tensor

from foretrace.data.windows import Windows
from foretrace.model.next_step import NextStepModel

KERNELS_AIM = "≤ 1.3"  # a step that only waits for its kernels to be launched takes longer


def precisions(plan: Plan) -> Iterator[Row]:
    """Measure the default network in three precisions: the whole step beside cuDNN called bare."""
    batch = min(256, plan.batches[-1])
    for precision in ("fp32", "tf32", "bf16"):
        allow_tf32(precision == "tf32")
        ours = lightning_s(plan, plan.hidden_sizes, batch, precision)
        bare = timed(plan, stepper(plan, Bare(plan.hidden_sizes), batch, precision))
        note = f"{milliseconds(ours)} / {milliseconds(bare)}"
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        yield row(f"training step, Lightning and data path / cuDNN bare, {precision}", ratios, note=note)
        rates = [batch * LENGTH / s for s in ours]
        yield row(f"window-steps a second, {batch} windows of {LENGTH}, {precision}", rates)
    allow_tf32(False)


def batches(plan: Plan) -> Iterator[Row]:
    """Measure the default network on more and more windows, gathered on the device; and its memory."""
    for precision, batch in itertools.product(("fp32", "bf16"), plan.batches):
        windows = Windows(recordings(plan), length=LENGTH, stride=5).to(plan.device)
        models = [
            NextStepModel(hidden_sizes=plan.hidden_sizes, num_features=FEATURES, output="change")
            for _ in "ab"
        ]
        eager = stepper(plan, models[0], batch, precision)
        train = stepper(plan, models[1], batch, precision, graphed=True)

        def step(train: Step = train, windows: Windows = windows, batch: int = batch) -> None:
            windows.gather(torch.randint(len(windows), (batch,), device=plan.device))
            train()

        if plan.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        few = replace(plan, steps=max(3, plan.steps * 256 // max(256, batch)))
        seconds, kernels = timed(few, step), kernel_s(few, eager)
        name = f"{batch} windows of {LENGTH}, {precision}"
        yield row(f"window-steps a second, {name}", [batch * LENGTH / s for s in seconds])
        if kernels:
            note = f"{milliseconds(seconds)} / {milliseconds([kernels])}"
            yield row(
                f"step / its kernels, {name}", [s / kernels for s in seconds], aim=KERNELS_AIM, note=note
            )
            yield row(f"peak memory, {name}", [torch.cuda.max_memory_allocated() / 1e6], "MB")


def small_models(plan: Plan) -> Iterator[Row]:
    """Networks of one layer, whose steps are bound by launches: eager, compiled, as CUDA graphs."""
    for width in plan.small:

        def made(width: int = width) -> NextStepModel:
            return NextStepModel(hidden_sizes=[width], num_features=FEATURES, output="change")

        eager = stepper(plan, made(), 32, "fp32")
        seconds, kernels = timed(plan, eager), kernel_s(plan, eager)
        name = f"one layer of {width}, 32 windows of {LENGTH}"
        yield row(f"training step, eager, {name}", [1000 * s for s in seconds], "ms")
        ways: dict[str, Callable[[], Step]] = {"torch.compile": lambda made=made: compiled(plan, made())}
        if plan.on_gpu:
            ways["forecasts and gradients as CUDA graphs"] = lambda made=made: stepper(
                plan, made(), 32, "fp32", graphed=True
            )
            ways["all as one CUDA graph"] = lambda made=made: graph(
                stepper(plan, made(), 32, "fp32", capturable=True)
            )
        for way, make in ways.items():
            with warnings.catch_warnings(action="ignore"):
                faster = timed(plan, make())
            note = f"{milliseconds(faster)}" + (f"; kernels {milliseconds([kernels])}" if kernels else "")
            yield row(f"training step, {way} / eager, {name}",
                      [a / b for a, b in zip(faster, seconds, strict=True)], note=note)  # fmt: skip
        whole = lightning_s(plan, [width], 32, "fp32")
        yield row(f"training step, Lightning and data path, {name}", [1000 * s for s in whole], "ms")


def open_loop(plan: Plan) -> Iterator[Row]:
    """Measure a training step with forecasts that feed on themselves, and rollouts side by side."""
    batch, steps = min(256, plan.batches[-1]), {}
    for horizon in (None, 20):
        module = forecaster(plan.hidden_sizes, horizon=horizon).to(plan.device).train()
        windows = Windows(recordings(plan), length=LENGTH, stride=LENGTH).to(plan.device)
        given = windows.gather(torch.arange(min(batch, len(windows)), device=plan.device))
        optimizer = torch.optim.Adam(module.parameters(), lr=0.001)

        def step(module: Any = module, given: Any = given, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            module.training_step(given, 0)["loss"].backward()
            optimizer.step()

        steps[horizon] = timed(replace(plan, steps=max(3, plan.steps // 4)), step)
    note = f"{milliseconds(steps[20])} / {milliseconds(steps[None])}"
    ratios = [a / b for a, b in zip(steps[20], steps[None], strict=True)]
    yield row("training step with 20 open-loop steps / one step ahead", ratios, note=note)
    for starts in plan.starts:
        model = NextStepModel(hidden_sizes=plan.hidden_sizes, num_features=FEATURES, output="change")
        model.to(plan.device).eval()
        x = torch.randn(starts, LENGTH, FEATURES, device=plan.device)

        def roll(model: NextStepModel = model, x: Tensor = x) -> None:
            with torch.inference_mode():
                model.rollout(x, x.new_zeros(len(x), LENGTH + 100, 0), horizon=100)

        seconds = timed(replace(plan, steps=1), roll)
        yield row(f"rollout of 100 steps, {starts} starts", [1000 * s for s in seconds], "ms")


def exact_resume(plan: Plan) -> Iterator[Row]:
    """Whether a run that was cut within an epoch ends with the bits of one that was not, with dropout."""
    for precision in ("fp32", "bf16"):
        ends = []
        with tempfile.TemporaryDirectory() as folder:
            for cut in (False, True):
                lightning.seed_everything(1, verbose=False)
                module, data = forecaster(plan.hidden_sizes, dropout=0.1), data_module(plan, plan.batches[0])
                checkpoint = Path(folder) / "cut.ckpt"
                if cut:
                    try:
                        fit(plan, module, data, 12, callbacks=[Generators(), CutAt(5, checkpoint)],
                            precision=precision)  # fmt: skip
                    except CutError:
                        lightning.seed_everything(2, verbose=False)
                    module, data = (
                        forecaster(plan.hidden_sizes, dropout=0.1),
                        data_module(plan, plan.batches[0]),
                    )
                fit(plan, module, data, 12, callbacks=[Generators()], precision=precision,
                    checkpoint=checkpoint if cut else None)  # fmt: skip
                ends.append({name: value.cpu() for name, value in module.state_dict().items()})
        apart = sum(not torch.equal(value, ends[1][name]) for name, value in ends[0].items())
        yield row(f"tensors that differ after a cut and resume, {precision}", [apart], aim="0",
                  note=f"of {len(ends[0])}; 12 steps, cut after 5")  # fmt: skip


PARTS = (precisions, batches, small_models, open_loop, exact_resume)


def measure(plan: Plan, *, minutes: float = 5.0, say: Callable[[Row], None] = print) -> dict[str, Any]:
    """Measure all parts, as far as the minutes reach."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    began, rows, skipped = time.monotonic(), list[Row](), list[str]()
    for part in PARTS:
        try:
            for found in part(plan):
                rows.append(found)
                say(found)
                if time.monotonic() - began > 60 * minutes:
                    skipped.append(f"rest of {part.__name__}: out of time")
                    break
        except Exception as error:  # a part that fails on some machine takes no other with it
            skipped.append(f"rest of {part.__name__}: {type(error).__name__}: {error}")
    took = (time.monotonic() - began) / 60
    return {"rows": rows, "skipped": skipped, "minutes": round(took, 1), "of": machine(plan)}


def machine(plan: Plan) -> str:
    """Return date, processor and versions."""
    cuda = f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if plan.on_gpu else ""
    versions = f"torch {torch.__version__}, lightning {lightning.__version__}{cuda}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    found = measure(Plan.on_this_machine(), minutes=asked.minutes)
    asked.output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(*(f"skipped: {line}" for line in found["skipped"]), f"written: {asked.output}", sep="\n")
