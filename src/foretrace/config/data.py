"""Where sequences come from and how they are cut into windows."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from foretrace.config.base import Settings
from foretrace.errors import InputError


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
    # Steps of training windows, one after the other; None: window and stride.
    train_window: PositiveInt | None = None
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
        for name, steps in (("window", self.window), ("train_window", self.train_window or 1)):
            if steps > self.steps:
                expected = f"at most as many steps as an episode has (data.steps={self.steps})"
                raise InputError(name, expected=expected, received=str(steps))
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


DataConfig = Annotated[SimulatedData | PublishedData | FilesData, Field(discriminator="source")]
