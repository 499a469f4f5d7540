"""What a person can choose, as checked and typed values; ``conf/`` gives the defaults.

Only what is cheap to import is imported, so that a wrong setting is answered at once.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from foretrace.errors import InputError, nearest

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """A group of settings: unknown keys are refused, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Split(Settings):
    """Shares of the episodes, or of each episode's time, for training, validation and test."""

    train: PositiveFloat
    valid: PositiveFloat
    test: PositiveFloat

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            shares = f"{self.train} + {self.valid} + {self.test}"
            raise InputError("", expected="shares train + valid + test that sum to 1", received=shares)
        return self


class Windowing(Settings):
    """How episodes are cut into windows and these into batches."""

    window: PositiveInt  # steps that the model reads; the target is the same window one step later
    stride: PositiveInt  # steps from one window's start to the next one's
    random_offset: bool  # training windows start at another offset (below the stride) each epoch
    batch_size: PositiveInt


class SimulatedData(Windowing):
    """Gaits of a simulated robot."""

    source: Literal["halfcheetah", "walker2d"]
    episodes: Annotated[int, Field(ge=3)]
    steps: PositiveInt  # simulated steps per episode; one row more than that, with the first state
    frame_skip: PositiveInt
    seed: Annotated[int, Field(ge=0)]
    split: Split

    @model_validator(mode="after")
    def _window_fits(self) -> "SimulatedData":
        if self.window > self.steps:
            expected = f"at most as many steps as an episode has (data.steps={self.steps})"
            raise InputError("window", expected=expected, received=str(self.window))
        return self


class PublishedData(Windowing):
    """A published data set with its published split and windows."""

    source: Literal["halfcheetah_ltc", "walker2d_cfc"]
    root: str


class FilesData(Windowing):
    """The user's own recordings."""

    source: Literal["files"]
    path: str  # a file, a folder or a pattern
    features: list[str] | None  # columns to predict; None: every numeric column
    inputs: list[str]  # columns that are known but never predicted
    units: dict[str, str] | None  # unit per feature
    episode_column: str | None
    order_column: str | None
    dt_s: PositiveFloat | None
    missing: Literal["refuse", "interpolate", "drop"]
    missing_limit: PositiveInt  # longest gap in rows that `interpolate` fills
    split: Split
    split_by: Literal["auto", "episode", "time"]


class Model(Settings):
    """The network."""

    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)]
    dropout: Fraction
    output: Literal["value", "change", "linear"]  # see foretrace.model.next_step
    input_clip: PositiveFloat | None  # largest absolute scaled value that the network reads
    frozen: list[str]  # layers that stay at their initial values: lstm.0, lstm.1, …, head, skip

    @model_validator(mode="after")
    def _frozen_layers_exist(self) -> "Model":
        layers = [f"lstm.{depth}" for depth in range(len(self.hidden_sizes))] + ["head"]
        layers += ["skip"] if self.output == "linear" else []
        for name in self.frozen:
            if name not in layers:
                expected = f"layers among {', '.join(layers)}"
                raise InputError("frozen", expected=expected, received=name, remedy=nearest(name, layers))
        return self


class Optimizer(Settings):
    """A class of `torch.optim` by name; further keys are its own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: str
    lr: PositiveFloat


class Scheduler(Settings):
    """A class of `torch.optim.lr_scheduler` by name; further keys are its own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: str
    interval: Literal["epoch", "step"]


class OpenLoop(Settings):
    """A second term of the loss: the error of forecasts that feed on themselves to the end of the window."""

    weight: PositiveFloat  # beside 1 for the one-step error
    horizon: PositiveInt  # steps that are forecast without looking
    growth_epochs: PositiveInt  # the horizon grows evenly from 1 step to all during the first so many epochs


class Loss(Settings):
    """What training minimises: the one-step MSE, and more if asked for."""

    units: Literal["scaled", "raw"]  # raw: as the published errors are; wide features count for more
    input_noise: Annotated[float, Field(ge=0)]  # standard deviation, in units of each feature's own
    open_loop: OpenLoop | None


class EarlyStopping(Settings):
    """Stops when the validation error has not fallen for a while."""

    patience: PositiveInt
    min_delta: Annotated[float, Field(ge=0)]


class Trainer(Settings):
    """How long and how precisely to train."""

    max_epochs: PositiveInt
    checkpoint_minutes: PositiveFloat  # from one checkpoint to the next within an epoch
    precision: Literal["32-true", "bf16-mixed"]
    gradient_clip: PositiveFloat | None
    early_stopping: EarlyStopping | None
    weight_averaging: (
        Fraction | None
    )  # decay per step of an exponential moving average, which is what is kept
    diagnose_every: PositiveInt | None  # epochs from one look at the gradients to the next; None: never
    progress: bool


class Evaluation(Settings):
    """How the trained model is judged beyond one step from a cold state."""

    warmup: Annotated[int, Field(ge=2)]  # steps that are read before a forecast counts or an open loop starts
    horizon: PositiveInt  # steps of an open loop


class Tracking(Settings):
    """Where runs are recorded."""

    uri: str | None  # None: a database in this checkout's mlruns/
    experiment: Annotated[str, Field(min_length=1)]
    run_name: str | None
    tags: dict[str, str] | None


DataConfig = Annotated[SimulatedData | PublishedData | FilesData, Field(discriminator="source")]


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


class Sweep(Settings):
    """A run's place among the jobs of a multirun."""

    resume: str | None  # id of a parent run: do what is missing of its sweep
    parent: str | None  # id of the parent run; the sweeper sets it for each job
    trial: int | None  # number of the search's trial; the sweeper sets it for each job


class TrainConfig(Settings):
    """Everything that a training run is made from."""

    resume: str | None  # id of a run to go on with, or `last`
    rerun: str | None  # id of a run to repeat from its record, in a new run
    sweep: Sweep
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    data: DataConfig
    model: Model
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler | None

    @model_validator(mode="after")
    def _open_loop_fits_into_a_window(self) -> "TrainConfig":
        horizon = self.loss.open_loop.horizon if self.loss.open_loop else 0
        if horizon >= self.data.window:
            expected = f"fewer steps than a window has (data.window={self.data.window})"
            raise InputError("loss.open_loop.horizon", expected=expected, received=str(horizon))
        return self

    trainer: Trainer
    evaluation: Evaluation
    tracking: Tracking


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
