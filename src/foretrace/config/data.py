"""What all groups of settings share, and those of the data: where sequences come from, how they are split and cut."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

LARGEST = 2**32 - 1  # of whole numbers: what counts more does not end in a lifetime, or fit into memory
Count = Annotated[int, Field(gt=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """A group of settings: unknown keys and values of another type are refused, nothing changes afterwards.

    A default is the one of ``conf/``. What a validator finds wrong it raises as a ValueError with a sentence that
    completes "<setting>: …".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class OpenSettings(Settings):
    """A group whose further keys are arguments of a class of torch."""

    model_config = ConfigDict(extra="allow")


class Split(Settings):
    """Shares of the episodes, or of each episode's time, for training, validation and test; a part may have none.

    Training needs the first two, and evaluation of new recordings the last one.
    """

    train: NonNegativeFloat
    valid: NonNegativeFloat
    test: NonNegativeFloat

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError(f"shares must sum to 1, got {self.train} + {self.valid} + {self.test}")
        return self


class Windowing(Settings):
    """How episodes are cut into windows and these into batches."""

    window: Count  # steps that the model reads; the target is the same window one step later
    stride: Count  # steps from one window's start to the next one's
    train_window: Count | None = None  # of training, one after the other; None: as window and stride say
    random_offset: bool  # training windows start at another offset (below the stride) each epoch
    batch_size: Count


class SimulatedData(Windowing):
    """Gaits of a simulated robot."""

    source: Literal["halfcheetah", "walker2d"]
    episodes: Annotated[int, Field(ge=3, le=LARGEST)]
    steps: Count  # simulated steps per episode; one row more than that, with the first state
    frame_skip: Count
    seed: Annotated[int, Field(ge=0, le=LARGEST)]
    split: Split

    @model_validator(mode="after")
    def _window_fits(self) -> "SimulatedData":
        for name in ("window", "train_window"):
            if (steps := getattr(self, name) or 0) > self.steps:
                raise ValueError(f"{name} {steps} is longer than an episode (data.steps={self.steps})")
        return self


class PublishedData(Windowing):
    """A published data set with its published split and windows."""

    source: Literal["halfcheetah_ltc", "walker2d_cfc"]
    root: str


class Reading(Settings):
    """How recordings are read; what a model needs to read new ones the same way."""

    features: list[str] | None = None  # columns to predict; None: every numeric column without another use
    covariates: list[str] = Field([])  # columns known but never predicted: numbers, booleans, categories
    units: dict[str, str] | None = None  # unit per column
    episode_column: str | None = None
    order_column: str | list[str] | None = None
    # As strptime takes it, iso, or what a number counts: s, ms, us, ns since 1970, min, h, d, excel, …
    time_format: str | None = None
    dt_s: PositiveFloat | None = None
    missing: Literal["error", "interpolate", "drop"] = "error"
    missing_values: list[str | float] | None = None  # texts and numbers that stand for no value
    missing_limit: Count = 5  # longest hole in rows that `interpolate` and `resample_s` fill
    gaps: Literal["cut", "keep"] = "cut"
    header: bool | Literal["auto"] = "auto"  # whether the first row holds names
    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    comment: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    units_row: bool = False
    encoding: str | None = None
    resample_s: PositiveFloat | None = None
    resample: Literal["mean", "last", "linear"] = "mean"
    elapsed: bool = False  # the time since the row before, in seconds, as a covariate
    calendar: list[Literal["hour", "weekday", "month", "yearday"]] = Field([])  # each as sine and cosine
    categories: dict[str, list[str]] | None = None  # of covariates that are text; None: those in the files

    @property
    def order(self) -> list[str]:
        """Columns that give the time together; there may be none."""
        return [self.order_column] if isinstance(self.order_column, str) else list(self.order_column or ())


class Splitting(Windowing):
    """How recordings are split."""

    split: Split
    split_by: Literal["auto", "episode", "time"]


class FilesData(Splitting, Reading):
    """The user's own recordings."""

    source: Literal["files"]
    path: str  # a file, a folder, a pattern or a URL


class LeRobotData(Splitting):
    """A LeRobot data set on disk."""

    source: Literal["lerobot"]
    root: str
    state: str  # what is predicted, as meta/info.json names it
    action: str | None  # what is known


class MinariData(Splitting):
    """A Minari data set on disk."""

    source: Literal["minari"]
    root: str
    actions: bool  # as covariates
    dt_s: PositiveFloat | None


DataConfig = Annotated[
    SimulatedData | PublishedData | FilesData | LeRobotData | MinariData, Field(discriminator="source")
]
