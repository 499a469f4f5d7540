"""A trained model in ONNX, which runs without PyTorch: raw units in and out, the state in and out.

Shapes: B batch, T time, F features, K covariates, C = F + K columns, H hidden units of a layer.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from foretrace.data.sequences import FloatArray
from foretrace.errors import UserError
from foretrace.model.next_step import NextStepModel
from foretrace.serving.predictor import Predictor

OPSET = 17  # of ONNX; runtimes since 2022 have it
TOLERANCE = 1e-5  # largest difference, as a share of a feature's standard deviation in training …
ROUNDINGS = 2  # … beside this many roundings of float32, which count where a feature is far from zero
LENGTHS = (1, 2, 50)  # rows of short recordings on which forms are compared, beside the whole one …
LONGEST = 5000  # … up to this many rows
STEPS = 100  # that are also taken one by one, before the rest
States = list[npt.NDArray[np.float32]]


class _Flat(nn.Module):
    """The model with its state as separate tensors, as ONNX has no tuples in tuples."""

    def __init__(self, model: NextStepModel, *, has_covariates: bool) -> None:
        super().__init__()
        self.model, self.has_covariates = model, has_covariates

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        values, covariates = tensors[0], tensors[1] if self.has_covariates else tensors[0][..., :0]
        flat = tensors[1 + self.has_covariates :]
        x, before = self.model.scaling(values), tuple(zip(flat[::2], flat[1::2], strict=True))
        forecast, spread, state = self.model.forward_spread(x, covariates, before)
        after = [tensor for pair in state for tensor in pair]
        return (self.model.scaling.inverse(forecast), *after, *([] if spread is None else [spread]))


def write_onnx(path: Path, predictor: Predictor) -> None:
    """Write the model.

    Its inputs are ``values`` (B, T, F), ``covariates`` (B, T, K) if it has any, and ``h0``, ``c0``, ``h1``, … of
    each layer, (1, B, H), zero at the start; its outputs ``forecast`` (B, T, F) of the row after each one, and
    ``h0_next``, ``c0_next``, … for the next call; then ``spread`` (B, T, F), scaled, of a model that gives it. B and T
    are free.
    """
    widths = {"values": len(predictor.feature_names), "covariates": len(predictor.covariate_names)}
    widths = {name: width for name, width in widths.items() if width}
    states = [f"{part}{layer}" for layer in range(len(predictor.start())) for part in "hc"]
    after, spread = [f"{name}_next" for name in states], ["spread"] if predictor.model.stack.spread else []
    free = {name: {0: "batch", 1: "time"} for name in [*widths, "forecast", *spread]}
    free |= {name: {1: "batch"} for name in [*states, *after]}
    example = [torch.zeros(1, 2, width) for width in widths.values()]
    example += [tensor for pair in predictor.start() for tensor in pair]
    with warnings.catch_warnings():
        # torch 2.13's other exporter (torch.export) fixes the number of steps of an LSTM to that of the example.
        # This one leaves it free, and is deprecated; what it writes is compared with the model by `check_parity`.
        for message in (".*legacy TorchScript-based", "The feature will be removed"):
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", message=".*batch_size other than 1", category=UserWarning)
        torch.onnx.export(
            _Flat(predictor.model, has_covariates="covariates" in widths).eval(),
            tuple(example),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[*widths, *states],
            output_names=["forecast", *after, *spread],
            dynamic_axes=free,
        )
    exported = onnx.load(path)
    calibration = predictor.calibration
    scaling = dict(predictor.model.scaling.named_buffers())  # mean and scale
    arrays = (
        calibration.arrays() | {name: part.numpy() for name, part in scaling.items()} if calibration else {}
    )
    texts = {f"calibration.{name}": json.dumps(array.tolist()) for name, array in arrays.items()}
    texts["calibration"] = json.dumps(calibration.facts() if calibration else {})
    onnx.helper.set_model_props(exported, predictor.card.texts() | texts)
    exported.producer_name, exported.producer_version = "foretrace", predictor.card.foretrace_version
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, path)


class OnnxRunner:
    """An ONNX file that runs with ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._inputs = [(one.name, one.shape) for one in self._session.get_inputs()]

    def start(self) -> States:
        """Return the state before the first row."""
        return [np.zeros((1, 1, shape[-1]), np.float32) for _, shape in self._inputs if shape[0] == 1]

    def forecast_steps(self, rows: FloatArray, state: States) -> tuple[FloatArray, FloatArray | None, States]:
        """Forecast one step ahead of each of the rows (T, C), as `Predictor.forecast_steps` does."""
        widths = [shape[-1] for _, shape in self._inputs[: -len(state)]]
        given = [*np.split(rows[None], np.cumsum(widths)[:-1], axis=2), *state]
        names = [name for name, _ in self._inputs]
        forecast, *after = self._session.run(None, dict(zip(names, given, strict=True)))
        spread = after.pop()[0] if len(after) > len(state) else None
        return forecast[0], spread, after


def check_parity(
    predictor: Predictor, runner: OnnxRunner, pyfunc: Any, episodes: Sequence[FloatArray]
) -> dict[str, float]:
    """Compare forecasts of real recordings (T, C), short and long: at once, in two parts and step by step.

    Returns:
        The largest difference of ONNX Runtime and of MLflow in standard deviations of training.

    Raises:
        UserError: If one is too large.
    """
    found = {"ONNX Runtime": 0.0, "MLflow": 0.0}
    whole = [episode[:LONGEST] for episode in episodes]
    for rows in (one[:length] for one in whole for length in sorted({*LENGTHS, len(one)} - {0})):
        ours, *_ = predictor.forecast_steps(rows, predictor.start())
        steps = [*range(1, len(rows))][:STEPS]
        for how, cuts in (("at once", []), ("in two parts", [len(rows) // 2]), ("step by step", steps)):
            theirs = _in_parts(runner, rows, cuts)
            difference = _difference(predictor, ours, theirs, f"{len(rows)} rows {how}")
            found["ONNX Runtime"] = max(found["ONNX Runtime"], difference)
        frame = pd.DataFrame(rows.astype(np.float64), columns=list(predictor.columns))
        ours, theirs = (model.predict(frame).to_numpy(np.float32) for model in (predictor, pyfunc))
        difference = _difference(predictor, ours, theirs, f"MLflow after {len(rows)} rows")
        found["MLflow"] = max(found["MLflow"], difference)
    return found


def _in_parts(runner: OnnxRunner, rows: FloatArray, cuts: list[int]) -> FloatArray:
    """Return forecasts (T, F) by one call for each part of the rows (T, C), the state carried from part to part."""
    state, found = runner.start(), []
    for part in np.split(rows, cuts):
        if len(part):
            forecasts, _, state = runner.forecast_steps(part, state)
            found.append(forecasts)
    return np.concatenate(found)


def _difference(predictor: Predictor, ours: FloatArray, theirs: FloatArray, what: str) -> float:
    """Return the largest difference in standard deviations, roundings left out."""
    rounding = ROUNDINGS * np.spacing(np.abs(ours))
    shares = np.maximum(np.abs(ours - theirs) - rounding, 0) / predictor.model.scaling.scale.numpy()
    found = float(np.nan_to_num(shares, nan=np.inf).max())
    if found > TOLERANCE:
        problem = f"differs by {found:.2g} standard deviations from PyTorch, more than {TOLERANCE:g}"
        raise UserError(f"{what}: {problem}", hint="Nothing was exported.")
    return found
