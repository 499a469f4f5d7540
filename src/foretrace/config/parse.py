"""From what Hydra composed to checked, typed settings; and from what is wrong with it to one sentence."""

from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from foretrace.config.base import Settings
from foretrace.config.commands import EvaluateConfig, ExportConfig, PredictConfig
from foretrace.config.training import TrainConfig
from foretrace.errors import UserError, suggest

Parsed = TypeVar("Parsed", bound=Settings)
RENAMED = {  # since 0.1.0
    "data.inputs": "data.covariates",
    "trainer.weight_averaging": "trainer.ema_decay",
    "start": "mode=forecast or mode=one_step",
    "log": "log_to=new_run or log_to=evaluated_run",
}


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
        raise _from_omegaconf(error) from error
    except ValidationError as error:
        first, *further = error.errors()
        raise _from_pydantic(first, f"And {len(further)} more." if further else "") from error


def known_keys() -> list[str]:
    """List all settings of all commands, with dots."""
    kinds = (TrainConfig, EvaluateConfig, PredictConfig, ExportConfig)
    return list(dict.fromkeys(key for kind in kinds for key in _keys(kind, "")))


def unknown_setting(key: str) -> UserError:
    """Return the error about a setting that does not exist."""
    if key in RENAMED:
        return UserError(f"{key}: has a new name", hint=f"Use {RENAMED[key]}.")
    return UserError(f"{key}: unknown setting", hint=suggest(key, known_keys()))


def _keys(settings: type[BaseModel], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, info in settings.model_fields.items():
        keys.append(prefix + name)
        for inner in _settings_in(info.annotation):
            keys += _keys(inner, f"{prefix}{name}.")
    return keys


def _settings_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for argument in getattr(annotation, "__args__", ()) for inner in _settings_in(argument)]


def _from_pydantic(detail: ErrorDetails, more: str) -> UserError:
    location, context = detail["loc"], detail.get("ctx", {})
    if location[:1] == ("data",) and len(location) > 1:  # pydantic names the kind of data too
        location = location[:1] + location[2:]
    key, kind = ".".join(str(part) for part in location), detail["type"]
    if kind == "extra_forbidden":
        unknown = unknown_setting(key)
        return UserError(unknown.message, hint=f"{unknown.hint} {more}".strip())
    if kind == "missing":
        return UserError(f"{key}: needs a value", hint=f"Set {key}=…. {more}".strip())
    if kind == "union_tag_invalid":
        problem = f"must be one of {context['expected_tags']}, got {context['tag']}"
        return UserError(f"data.source: {problem}", hint=more)
    if kind == "value_error":  # of a validator, whose sentence may start with the key of a setting within
        return UserError(f"{key}: {context['error']}" if key else str(context["error"]), hint=more)
    problem = detail["msg"][0].lower() + detail["msg"][1:]
    return UserError(f"{key}: {problem.replace('input should', 'must')}, got {detail['input']!r}", hint=more)


def _from_omegaconf(error: OmegaConfBaseException) -> UserError:
    key, reason = error.full_key or "configuration", str(error).splitlines()[0]
    if "Missing mandatory value" in reason:
        return UserError(f"{key}: needs a value", hint=f"Set {key}=….")
    return UserError(f"{key}: cannot be resolved ({reason})")
