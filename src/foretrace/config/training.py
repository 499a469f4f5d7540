"""Settings of a training run."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, field_validator, model_validator

from foretrace.config.base import LARGEST, Count, Fraction, OpenSettings, Settings
from foretrace.config.data import DataConfig
from foretrace.errors import suggest


class Network(Settings):
    """The network; see `foretrace.model.next_step.NextStepModel`."""

    hidden_sizes: Annotated[list[Annotated[int, Field(gt=0, le=2**16)]], Field(min_length=1, max_length=100)]
    dropout: Fraction = 0.0
    output: Literal["value", "change", "linear"] = "change"
    input_clip: PositiveFloat | None = None  # largest absolute scaled value that the network reads
    frozen: list[str] = Field([])  # layers that stay at their initial values: lstm.0, lstm.1, …, head, skip

    @model_validator(mode="after")
    def _frozen_layers_exist(self) -> "Network":
        layers = [f"lstm.{depth}" for depth in range(len(self.hidden_sizes))] + ["head"]
        layers += ["skip"] if self.output == "linear" else []
        for name in self.frozen:
            if name not in layers:
                raise ValueError(f"no layer {name!r} to freeze. {suggest(name, layers)}")
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
    # Of intervals, in percent.
    levels: list[Annotated[float, Field(gt=0, lt=100)]] = Field(default_factory=lambda: [50.0, 80.0, 90.0])

    @model_validator(mode="after")
    def _season_is_read(self) -> "Evaluation":
        if self.season is not None and self.season > self.warmup:
            raise ValueError(f"season: {self.season} steps are more than the {self.warmup} that warmup reads")
        return self

    @field_validator("levels")
    @classmethod
    def _ascend(cls, levels: list[float]) -> list[float]:
        """Intervals are told apart by their levels."""
        if len(set(levels)) < len(levels):
            raise ValueError("levels must differ from one another")
        return sorted(levels)


class Tracking(Settings):
    """Where runs are recorded."""

    uri: str | None  # None: a database in this checkout's mlruns/
    experiment: Annotated[str, Field(min_length=1)]
    run_name: str | None
    tags: dict[Annotated[str, Field(min_length=1, max_length=200)], str] | None
    csv: bool = False  # also write all curves as one table, curves.csv among the artifacts


def _stands_by_itself(resume: str | None) -> None:
    """Refuse what has to be known before there is a configuration."""
    if resume is not None:
        raise ValueError("must be typed as sweep.resume=<id>, by itself")


class Sweep(Settings):
    """A run's place among the jobs of a multirun."""

    # Id of a parent run: do what is missing of its sweep.
    resume: Annotated[str | None, AfterValidator(_stands_by_itself)]
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
    def _head_learns_the_spread(self) -> "TrainConfig":
        if self.loss.kind == "gaussian" and "head" in self.model.frozen:
            raise ValueError("model.frozen: with loss.kind=gaussian the head has to learn the spread")
        return self

    @model_validator(mode="after")
    def _open_loop_fits_into_a_window(self) -> "TrainConfig":
        horizon = self.loss.open_loop.horizon if self.loss.open_loop else 0
        name = "window" if self.data.train_window is None else "train_window"
        if horizon >= (steps := getattr(self.data, name)):
            limit = f"a training window's length (data.{name}={steps})"
            raise ValueError(f"loss.open_loop.horizon: must be below {limit}, got {horizon}")
        return self
