"""The typed form of ``conf/``: what Hydra composed becomes checked values here, once."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from foretrace.config import (
    EvaluateConfig,
    ExportConfig,
    FilesData,
    PredictConfig,
    PublishedData,
    Settings,
    SimulatedData,
    TrainConfig,
)
from foretrace.errors import InputError, suggest

SOURCES = {
    name
    for kind in (SimulatedData, PublishedData, FilesData)
    for name in get_args(kind.model_fields["source"].annotation)
}

Parsed = TypeVar("Parsed", bound=Settings)


def parse(cfg: DictConfig | Mapping[str, Any], kind: type[Parsed]) -> Parsed:
    """Checks a composed configuration and gives it types.

    Args:
        cfg: What Hydra composed.
        kind: What it is to be.

    Raises:
        InputError: If a key is unknown, missing or has a value that does not fit.
    """
    try:
        plain = (
            OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
            if OmegaConf.is_config(cfg)
            else cfg
        )
    except OmegaConfBaseException as error:
        raise _from_omegaconf(error) from error
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        details = error.errors()
        more = f" And {len(details) - 1} more." if len(details) > 1 else ""
        raise _from_pydantic(details[0], more) from error


def known_keys() -> list[str]:
    """All keys that a configuration may have, with dots."""
    kinds = (TrainConfig, EvaluateConfig, PredictConfig, ExportConfig)
    return list(dict.fromkeys(key for kind in kinds for key in _keys(kind, "")))


def _keys(settings: type[BaseModel], prefix: str) -> list[str]:
    keys: dict[str, None] = {}
    for name, info in settings.model_fields.items():
        keys[prefix + name] = None
        for inner in _settings_in(info.annotation):
            keys |= dict.fromkeys(_keys(inner, f"{prefix}{name}."))
    return list(keys)


def _settings_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for argument in getattr(annotation, "__args__", ()) for inner in _settings_in(argument)]


def _from_pydantic(detail: ErrorDetails, more: str) -> InputError:
    key = ".".join(str(part) for part in detail["loc"] if not _is_union_tag(detail["loc"], part))
    message, received = detail["msg"], repr(detail["input"])
    if detail["type"] == "extra_forbidden":
        remedy = suggest(key, known_keys()) + more
        return InputError(key, expected="a setting that exists", received=key, remedy=remedy)
    if detail["type"] == "missing":
        return InputError(key, expected="a value", received="none", remedy=f"Set {key}=….{more}")
    context = detail.get("ctx", {})
    if detail["type"] == "union_tag_invalid":
        key = f"{key}.{context['discriminator'].strip(chr(39))}"
        expected = f"one of {context['expected_tags']}"
        return InputError(key, expected=expected, received=context["tag"], remedy=more.strip())
    if detail["type"] in ("string_too_short", "too_short"):
        expected = f"at least {context['min_length']} character or element"
        return InputError(key, expected=expected, received=received, remedy=more.strip())
    error = context.get("error")
    if isinstance(error, InputError):
        key = f"{key}.{error.where}".strip(".")
        return InputError(key, expected=error.expected, received=error.received, remedy=error.remedy + more)
    message = message.removeprefix("Input should be ")
    return InputError(key, expected=message, received=received, remedy=more.strip())


def _is_union_tag(location: tuple[int | str, ...], part: int | str) -> bool:
    return len(location) > 1 and location[0] == "data" and part is location[1] and part in SOURCES


def _from_omegaconf(error: OmegaConfBaseException) -> InputError:
    key = error.full_key or "configuration"
    reason = str(error).splitlines()[0]
    if "Missing mandatory value" in reason:
        return InputError(key, expected="a value", received="none", remedy=f"Set {key}=….")
    return InputError(key, expected="a value that can be resolved", received=reason)
