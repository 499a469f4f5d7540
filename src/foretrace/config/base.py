"""What all groups of settings share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
