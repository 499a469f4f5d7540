"""Settings of the commands: of training, with its network, loss and trainer, and of what comes after it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from foretrace.config.data import LARGEST, Count, DataConfig, Fraction, OpenSettings, Settings
from foretrace.errors import suggest

# Of intervals, in percent: each once, ascending.
Levels = Annotated[
    list[Annotated[float, Field(gt=0, lt=100)]], AfterValidator(lambda levels: sorted({*levels}))
]


class Network(Settings):
    """The network; see `foretrace.model.next_step.NextStepModel`."""

    hidden_sizes: Annotated[list[Annotated[int, Field(gt=0, le=2**16)]], Field(min_length=1, max_length=100)]
    dropout: Fraction = 0.0
    output: Literal["value", "change", "linear"] = "change"
    input_clip: PositiveFloat | None = None  # largest absolute scaled value that the network reads
    frozen: list[str] = Field([])  # layers that stay at their initial values: lstm.0, lstm.1, …, head, skip

    @model_validator(mode="after")
    def _frozen_layers_exist(self) -> "Network":
        layers = [*(f"lstm.{depth}" for depth in range(len(self.hidden_sizes))), "head"]
        layers += ["skip"] * (self.output == "linear")
        if unknown := [name for name in self.frozen if name not in layers]:
            raise ValueError(f"no layer {unknown[0]!r} to freeze. {suggest(unknown[0], layers)}")
        return self


class Model(Network):
    """The network, and where its weights begin."""

    init_from: str | None = None  # a run, a model file …, whose weights training begins from
    init_scaling: Literal["keep", "refit"] = "keep"  # the ancestor's scaling, or that of the new data

    def network(self) -> dict[str, Any]:
        """Return what the network itself is made from."""
        return self.model_dump(include=set(Network.model_fields))


class Optimizer(OpenSettings):
    """A class of `torch.optim` by name; further keys are its own arguments."""

    name: str
    lr: PositiveFloat


class Scheduler(OpenSettings):
    """A class of `torch.optim.lr_scheduler` by name; further keys are its own arguments."""

    name: str
    interval: Literal["epoch", "step"]


class OpenLoop(Settings):
    """A second term of the loss: the error of forecasts that feed on themselves to the end of the window."""

    weight: PositiveFloat  # beside 1 for the one-step error
    horizon: Count  # steps that are forecast without looking
    growth_epochs: Count  # the horizon grows evenly from 1 step to all during the first so many epochs


class Loss(Settings):
    """What training minimizes: the one-step MSE, and more if asked for."""

    # huber: large errors count by their size, not its square. gaussian: forecasts learn how uncertain each of them is.
    kind: Literal["mse", "huber", "gaussian"] = "mse"
    huber_delta: PositiveFloat = 1.0  # from where an error is large, in standard deviations
    # raw: as the published errors are; wide features count for more.
    units: Literal["scaled", "raw"] = "scaled"
    input_noise: Annotated[float, Field(ge=0)]  # standard deviation, in units of each feature's own
    open_loop: OpenLoop | None


class EarlyStopping(Settings):
    """Stops when the validation error has not fallen for a while."""

    patience: Count
    min_delta: Annotated[float, Field(ge=0)]


class Trainer(Settings):
    """How long and how precisely to train."""

    max_epochs: Count
    max_minutes: PositiveFloat | None = None  # then training ends with a checkpoint, which can be resumed
    limit_batches: Count | None = None  # of an epoch and of its validation: a trial, tagged as one
    devices: Count = 1  # processes on this machine, one to a GPU, that share each batch
    checkpoint_minutes: PositiveFloat = 5  # from one checkpoint to the next within an epoch
    precision: Literal["auto", "32-true", "bf16-mixed"]  # auto: see foretrace.training.hardware
    gradient_clip: PositiveFloat | None
    early_stopping: EarlyStopping | None
    ema_decay: Fraction | None = None  # decay per step of the moving average of weights that is kept
    diagnose_every: Count | None  # epochs from one look at the gradients to the next; None: never
    progress: bool


class Evaluation(Settings):
    """How the trained model is evaluated beyond one step from a state of zero."""

    warmup: Annotated[int, Field(ge=2, le=LARGEST)]  # steps read before a forecast counts or a rollout starts
    horizon: Count  # steps of a rollout
    season: Count | None = None  # steps, for the seasonal baseline; None: found on the training part
    boosting: bool = False  # gradient boosting among the baselines, one step and the farthest ahead
    levels: Levels = Field(default_factory=lambda: [50.0, 80.0, 90.0])

    @model_validator(mode="after")
    def _season_is_read(self) -> "Evaluation":
        if self.season is not None and self.season > self.warmup:
            raise ValueError(f"season: {self.season} steps are more than the {self.warmup} that warmup reads")
        return self


class Tracking(Settings):
    """Where runs are recorded."""

    uri: str | None  # None: a database in this checkout's mlruns/
    experiment: Annotated[str, Field(min_length=1)]
    run_name: str | None
    tags: dict[Annotated[str, Field(min_length=1, max_length=200)], str] | None
    csv: bool = False  # also write all curves as one table, curves.csv among the artifacts


class Sweep(Settings):
    """A run's place among the jobs of a multirun."""

    resume: str | None  # id of a parent run: do what is missing of its sweep
    parent: str | None  # id of the parent run; the sweeper sets it for each job
    trial: int | None  # number of the search's trial; the sweeper sets it for each job


class TrainConfig(Settings):
    """Everything that a training run is made from."""

    resume: str | None  # id of a run to resume, or `last`
    rerun: str | None  # id of a run to repeat from its record, in a new run
    sweep: Sweep
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    data: DataConfig
    model: Model
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler | None
    trainer: Trainer
    evaluation: Evaluation
    tracking: Tracking

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        if self.sweep.resume is not None:  # has to be known before there is a configuration
            raise ValueError("sweep.resume: must be typed as sweep.resume=<id>, by itself")
        if self.loss.kind == "gaussian" and "head" in self.model.frozen:
            raise ValueError("model.frozen: with loss.kind=gaussian the head has to learn the spread")
        horizon = self.loss.open_loop.horizon if self.loss.open_loop else 0
        name = "window" if self.data.train_window is None else "train_window"
        if horizon >= (steps := getattr(self.data, name)):
            limit = f"a training window's length (data.{name}={steps})"
            raise ValueError(f"loss.open_loop.horizon: must be below {limit}, got {horizon}")
        return self


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
