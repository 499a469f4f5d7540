"""From what Hydra composed to checked, typed settings."""

from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from foretrace.config import wording
from foretrace.config.base import Settings

Parsed = TypeVar("Parsed", bound=Settings)


def parse(cfg: DictConfig | Mapping[str, Any], kind: type[Parsed]) -> Parsed:
    """Check a composed configuration and return it as settings of a kind.

    Raises:
        UserError: If a key is unknown or missing, or a value does not fit.
    """
    try:
        plain = (
            OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
            if OmegaConf.is_config(cfg)
            else cfg
        )
        return kind.model_validate(plain)
    except OmegaConfBaseException as error:
        raise wording.from_omegaconf(error) from error
    except ValidationError as error:
        raise wording.from_pydantic(error) from error
