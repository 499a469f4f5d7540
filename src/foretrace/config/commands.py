"""Settings of the commands beside training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from foretrace.config.base import Count, Settings
from foretrace.config.data import DataConfig
from foretrace.config.training import Evaluation, Tracking


class EvaluateConfig(Settings):
    """What is evaluated: one run, one checkpoint, or two runs against each other."""

    run: str | None
    checkpoint: str | None
    runs: Annotated[list[str], Field(min_length=2, max_length=2)] | None
    data: DataConfig | None = None
    log_to: Literal["new_run", "evaluated_run"]
    evaluation: Evaluation
    tracking: Tracking

    @model_validator(mode="after")
    def _one_thing(self) -> "EvaluateConfig":
        given = [name for name in ("run", "checkpoint", "runs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of run, checkpoint and runs, got {' and '.join(given) or 'none'}")
        if self.checkpoint is not None and self.data is None:
            raise ValueError("data: a checkpoint alone names no data. Choose some: data=…")
        if self.checkpoint is not None and self.log_to == "evaluated_run":
            raise ValueError("log_to: must be new_run, as a checkpoint alone names no run")
        return self


class DescribeConfig(Settings):
    """Which data to describe."""

    data: DataConfig
    output: str | None = None  # a .parquet file for the canonical table
    overwrite: bool = False


class Store(Settings):
    """Where runs are looked for."""

    uri: str | None  # None: the database in this checkout's mlruns/


class Recordings(Settings):
    """What to forecast."""

    path: str  # a file, a folder, a pattern or a URL
    # None: as the model's training data were read.
    episode_column: str | None = None
    order_column: str | list[str] | None = None
    time_format: str | None = None
    missing: Literal["error", "interpolate", "drop"] | None = None
    missing_values: list[str | float] | None = None
    gaps: Literal["cut", "keep"] | None = None
    encoding: str | None = None


class PredictConfig(Settings):
    """Forecasts of recordings by a trained model."""

    run: str | None
    model: str | None  # whatever foretrace.load takes
    data: Recordings
    output: str
    horizon: Count
    intervals: Literal["all"] | list[float] | None = "all"  # levels in percent
    mode: Literal["forecast", "one_step"]  # what follows the last row; or one step ahead of each row
    overwrite: bool
    tracking: Store

    @model_validator(mode="after")
    def _one_model(self) -> "PredictConfig":
        if (self.run is None) == (self.model is None):
            raise ValueError(f"give either run or model, got {'neither' if self.run is None else 'both'}")
        if self.mode == "one_step" and self.horizon > 1:
            raise ValueError(f"horizon: must be 1 with mode=one_step, got {self.horizon}")
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
            raise ValueError("give format=onnx, format=safetensors or register_as=<name>")
        if self.format is None and self.output is not None:
            raise ValueError("output: needs a format=… beside it")
        return self
