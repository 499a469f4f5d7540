"""What all groups of settings share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foretrace.errors import InputError

Fraction = Annotated[float, Field(ge=0, lt=1)]
LARGEST = 2**32 - 1  # of whole numbers: what counts more does not end in a lifetime, or fit into memory


class Settings(BaseModel):
    """A group of settings: unknown keys are refused, nothing changes afterwards.

    Values come from ``conf/``. A default here is what runs did before there was that setting: their records lack it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _are_sane(cls, given: Any) -> Any:
        """Refuses true for 1, as in ``trainer.max_epochs=true``, and numbers that overflow."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, bool) and field is not None and field.annotation is not bool:
                    raise InputError(
                        name, expected="something else than true or false", received=str(one).lower()
                    )
                if isinstance(one, int) and abs(one) > LARGEST:
                    raise InputError(name, expected=f"at most {LARGEST:,} in size", received=str(one))
        return given
