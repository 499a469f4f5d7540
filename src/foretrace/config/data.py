"""Settings of the data: where sequences come from, how they are split and cut into windows."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from foretrace.config.base import LARGEST, Count, Settings


class Split(Settings):
    """Shares of the episodes, or of each episode's time, for training, validation and test."""

    train: PositiveFloat
    valid: PositiveFloat
    test: PositiveFloat

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError(f"shares must sum to 1, got {self.train} + {self.valid} + {self.test}")
        return self


class Windowing(Settings):
    """How episodes are cut into windows and these into batches."""

    window: Count  # steps that the model reads; the target is the same window one step later
    stride: Count  # steps from one window's start to the next one's
    # Steps of training windows, one after the other; None: window and stride.
    train_window: Count | None = None
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
        for name, steps in (("window", self.window), ("train_window", self.train_window or 1)):
            if steps > self.steps:
                raise ValueError(f"{name} {steps} is longer than an episode (data.steps={self.steps})")
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
    missing_limit: Count  # longest gap in rows that `interpolate` fills
    split: Split
    split_by: Literal["auto", "episode", "time"]


DataConfig = Annotated[SimulatedData | PublishedData | FilesData, Field(discriminator="source")]
