"""From what Hydra composed to checked, typed settings; and one sentence and one hint for whatever is wrong with it."""

import sys
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from foretrace.config.commands import DescribeConfig, EvaluateConfig, ExportConfig, PredictConfig, TrainConfig
from foretrace.config.data import DataConfig, Settings
from foretrace.errors import UserError, suggest
from foretrace.workspace import CONF

RENAMED = {  # since 0.1.0
    "data.inputs": "data.covariates",
    "trainer.weight_averaging": "trainer.ema_decay",
    "start": "mode=forecast or mode=one_step",
    "log": "log_to=new_run or log_to=evaluated_run",
}
SOURCES = {
    name
    for kind in get_args(get_args(DataConfig)[0])
    for name in get_args(kind.model_fields["source"].annotation)
}

Parsed = TypeVar("Parsed", bound=Settings)


def parse(cfg: DictConfig | Mapping[str, Any], kind: type[Parsed]) -> Parsed:
    """Check a composed configuration and return it as settings of a kind.

    Raises:
        UserError: If a key is unknown or missing, or a value does not fit.
    """
    try:
        if OmegaConf.is_config(cfg):
            cfg = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        return kind.model_validate(cfg)
    except OmegaConfBaseException as error:
        key, reason = error.full_key or "configuration", str(error).splitlines()[0]
        if "Missing mandatory value" in reason:
            raise _missing(key) from error
        raise UserError(f"{key}: cannot be resolved ({reason})") from error
    except ValidationError as error:
        raise _from_pydantic(error) from error


def known_keys() -> list[str]:
    """List all settings of all commands, with dots."""
    kinds = (TrainConfig, DescribeConfig, EvaluateConfig, PredictConfig, ExportConfig)
    return list(dict.fromkeys(key for kind in kinds for key in _keys(kind, "")))


def from_hydra(error: Exception) -> UserError:
    """Word what Hydra found wrong with the command line."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        hint = suggest(option, error.options)
        if option.startswith("submitit") and group == "hydra/launcher":
            hint = 'Run: pip install "foretrace[sweeps]"'
        return UserError(f"{group}: no option {option or 'given'!r}", hint=hint)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        return _from_missing_key(str(cause.full_key))
    if isinstance(error, OverrideParseException):
        hint = "Write KEY=VALUE; quote special characters twice: 'tracking.run_name=\"a, b\"'."
        return UserError(f"cannot read {error.override!r}", hint=hint)
    if isinstance(error, ValueError):  # `model=5`; Hydra does not say which
        typed = " ".join(sys.argv[1:])
        return UserError(f"{typed}: after GROUP= comes the name of an option", hint="See --help.")
    return UserError(f"{error} ({str(cause).partition(chr(10))[0]})" if cause else str(error))


def _from_missing_key(key: str) -> UserError:
    group, _, name = key.rpartition(".")
    root = key.partition(".")[0]
    if key == root and (options := sorted(f"{key}={file.stem}" for file in CONF.glob(f"{key}/*.yaml"))):
        hint = f"Write one before its settings: {', '.join(options)}."
        return UserError(f"{key}: choose one first", hint=hint)
    if key not in known_keys() or key in RENAMED:
        return _unknown(key)
    if (CONF / root).is_dir() and group == root:
        files = sorted((CONF / root).glob("*.yaml"))
        held = [f"{root}={file.stem}" for file in files if f"\n{name}:" in f"\n{file.read_text('utf-8')}"]
        hint = f"Add {' or '.join(held)}." if held else ""
        return UserError(f"{key}: belongs to another choice of {root}=…", hint=hint)
    hint = f"Set the whole of it: {group}={{{name}: …}}."
    return UserError(f"{key}: {group} is null by default", hint=hint)


def _from_pydantic(error: ValidationError) -> UserError:
    """Word what pydantic found wrong first, and count the rest."""
    detail, *further = error.errors()
    location, context, kind = detail["loc"], detail.get("ctx", {}), detail["type"]
    if location[:1] == ("data",) and location[1:2] and location[1] in SOURCES:
        location = location[:1] + location[2:]  # pydantic names the kind of data, too
    key = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        found = _unknown(key)
    elif kind == "missing":
        found = _missing(key)
    elif kind == "union_tag_invalid":
        found = UserError(f"{key}.source: must be one of {context['expected_tags']}, got {context['tag']}")
    elif kind == "value_error":  # of a validator, whose sentence may start with the key of a setting within
        found = UserError(f"{key}: {context['error']}".removeprefix(": "))
    else:
        problem = (detail["msg"][0].lower() + detail["msg"][1:]).replace("input should", "must")
        found = UserError(f"{key}: {problem}, got {detail['input']!r}")
    more = f"And {len(further)} more." if further else ""
    return UserError(found.message, hint=f"{found.hint} {more}".strip())


def _missing(key: str) -> UserError:
    return UserError(f"{key}: needs a value", hint=f"Set {key}=….")


def _unknown(key: str) -> UserError:
    if key in RENAMED:
        return UserError(f"{key}: has a new name", hint=f"Use {RENAMED[key]}.")
    return UserError(f"{key}: unknown setting", hint=suggest(key, known_keys()))


def _keys(annotation: Any, prefix: str) -> list[str]:
    """List the settings within a type: a group of settings, or a union that has some."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return [key for argument in getattr(annotation, "__args__", ()) for key in _keys(argument, prefix)]
    return [
        key
        for name, info in annotation.model_fields.items()
        for key in (prefix + name, *_keys(info.annotation, f"{prefix}{name}."))
    ]
