"""What the commands beside training are told."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from foretrace.config.base import Settings
from foretrace.config.data import DataConfig
from foretrace.config.training import Evaluation, Tracking
from foretrace.errors import InputError


class EvaluateConfig(Settings):
    """What is judged: one run, one checkpoint, or two runs against each other."""

    run: str | None
    checkpoint: str | None
    runs: Annotated[list[str], Field(min_length=2, max_length=2)] | None
    data: DataConfig | None = None
    log: Literal["new", "same"]
    evaluation: Evaluation
    tracking: Tracking

    @model_validator(mode="after")
    def _one_thing(self) -> "EvaluateConfig":
        given = [name for name in ("run", "checkpoint", "runs") if getattr(self, name) is not None]
        if len(given) != 1:
            received = " and ".join(given) or "none of them"
            raise InputError("run", expected="one of run, checkpoint and runs", received=received)
        if self.checkpoint is not None and self.data is None:
            remedy = "Name the data to judge it on: data=…"
            raise InputError(
                "data", expected="a data set beside a checkpoint", received="none", remedy=remedy
            )
        if self.checkpoint is not None and self.log == "same":
            raise InputError("log", expected="new, as a checkpoint alone names no run", received="same")
        return self


class Store(Settings):
    """Where runs are looked for."""

    uri: str | None  # None: the database in this checkout's mlruns/


class Recordings(Settings):
    """What to forecast."""

    path: str  # a file, a folder or a pattern
    episode_column: str | None
    order_column: str | None


class PredictConfig(Settings):
    """Forecasts of recordings by a trained model."""

    run: str | None
    model: str | None  # whatever foretrace.load takes
    data: Recordings
    output: str
    horizon: PositiveInt
    start: Literal["end", "each"]
    overwrite: bool
    tracking: Store

    @model_validator(mode="after")
    def _one_model(self) -> "PredictConfig":
        if (self.run is None) == (self.model is None):
            received = "none of them" if self.run is None else "run and model"
            raise InputError("run", expected="one of run and model", received=received)
        if self.start == "each" and self.horizon > 1:
            remedy = "Leave it out, or set start=end."
            received = str(self.horizon)
            raise InputError("horizon", expected="1 with start=each", received=received, remedy=remedy)
        return self


class ExportConfig(Settings):
    """A trained model in another form."""

    run: str
    format: Literal["onnx", "safetensors"] | None
    output: str | None  # None: model.onnx or model.safetensors
    register_as: Annotated[str, Field(min_length=1)] | None  # a name in MLflow's registry
    data: DataConfig | None = None
    overwrite: bool
    tracking: Store

    @model_validator(mode="after")
    def _something_to_do(self) -> "ExportConfig":
        if self.format is None and self.register_as is None:
            raise InputError(
                "format", expected="onnx, safetensors, or register_as=<name>", received="neither"
            )
        if self.format is None and self.output is not None:
            raise InputError("output", expected="a format beside it", received=self.output)
        return self
