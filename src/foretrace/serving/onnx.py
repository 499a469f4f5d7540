"""A trained model in ONNX, which runs without PyTorch: raw units in and out, the state in and out.

Shapes: B batch, T time, F features, K covariates, C = F + K columns, H hidden units of a layer.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from foretrace.model.next_step import NextStepModel
from foretrace.serving.predictor import Predictor
from foretrace.serving.rows import FloatArray

OPSET = 17  # of ONNX; runtimes since 2022 have it
States = list[npt.NDArray[np.float32]]


class _Flat(nn.Module):
    """The model with its state as separate tensors, as ONNX has no tuples in tuples."""

    def __init__(self, model: NextStepModel, *, has_covariates: bool) -> None:
        super().__init__()
        self.model, self.has_covariates = model, has_covariates

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        values, covariates = tensors[0], tensors[1] if self.has_covariates else tensors[0][..., :0]
        flat = tensors[1 + self.has_covariates :]
        forecast, state = self.model(values, covariates, tuple(zip(flat[::2], flat[1::2], strict=True)))
        return (forecast, *(tensor for pair in state for tensor in pair))


def write_onnx(path: Path, predictor: Predictor) -> None:
    """Write the model.

    Its inputs are ``values`` (B, T, F), ``covariates`` (B, T, K) if it has any, and ``h0``, ``c0``, ``h1``, … of
    each layer, (1, B, H), zero at the start; its outputs ``forecast`` (B, T, F) of the row after each one, and
    ``h0_next``, ``c0_next``, … for the next call. B and T are free.
    """
    has_covariates = bool(predictor.covariate_names)
    sequences = ["values", *(["covariates"] if has_covariates else [])]
    states = [f"{part}{layer}" for layer in range(len(predictor.start())) for part in "hc"]
    outputs = ["forecast", *(f"{name}_next" for name in states)]
    free = {name: {0: "batch", 1: "time"} for name in [*sequences, "forecast"]}
    free |= {name: {1: "batch"} for name in [*states, *outputs[1:]]}
    widths = [len(predictor.feature_names), *([len(predictor.covariate_names)] if has_covariates else [])]
    example = [torch.zeros(1, 2, width) for width in widths]
    example += [tensor for pair in predictor.start() for tensor in pair]
    with warnings.catch_warnings():
        # torch 2.13's other exporter (torch.export) fixes the number of steps of an LSTM to that of the example.
        # This one leaves it free, and is deprecated; what it writes is compared with the model by `parity`.
        for message in (".*legacy TorchScript-based", "The feature will be removed"):
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", message=".*batch_size other than 1", category=UserWarning)
        torch.onnx.export(
            _Flat(predictor.model, has_covariates=has_covariates).eval(),
            tuple(example),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[*sequences, *states],
            output_names=outputs,
            dynamic_axes=free,
        )
    exported = onnx.load(path)
    onnx.helper.set_model_props(exported, predictor.card.texts())
    exported.producer_name, exported.producer_version = "foretrace", predictor.card.foretrace_version
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, path)


class OnnxRunner:
    """An ONNX file that runs with ONNX Runtime on the CPU.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._inputs = [(one.name, one.shape) for one in self._session.get_inputs()]

    def forecast_steps(self, rows: FloatArray, state: States | None) -> tuple[FloatArray, States]:
        """Forecast one step ahead of each of the rows (T, C), as `Predictor.forecast_steps` does."""
        fed: dict[str, Any] = {}
        first, given = 0, list(state or [])
        for name, shape in self._inputs:
            if name in ("values", "covariates"):
                fed[name] = rows[None, :, first : first + shape[-1]]
                first += shape[-1]
            else:
                fed[name] = given.pop(0) if state else np.zeros((1, 1, shape[-1]), np.float32)
        forecast, *after = self._session.run(None, fed)
        return forecast[0], after
