"""The settings of a recorded run, changed by what is asked for today."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from foretrace.config.parse import parse
from foretrace.config.training import TrainConfig
from foretrace.errors import UserError

Changes = dict[str, tuple[Any, Any]]  # setting: value then, value now
Path = tuple[str, ...]
GROUPS = {
    "data": "source",
    "optimizer": "name",
    "scheduler": "name",
    "model": None,
}  # what tells choices apart
DIRECTIVES = ("resume", "rerun", "sweep")  # how a run starts, which is no property of it
ABSENT = "not set"


def merge_settings(
    recorded: dict[str, Any], composed: DictConfig, overrides: Sequence[str]
) -> tuple[TrainConfig, Changes]:
    """Return the settings of a recorded run with today's overrides, and what these change.

    Every override acts, whether it names one setting (``a.b=1``), several (``a={b: 1}``), none any more
    (``a=null``, ``~a.b``) or a choice of a group (``optimizer=sgd``). Naming the choice that the run was made with
    leaves the run's values as they are.

    Args:
        recorded: The run's own, from its ``config.yaml``.
        composed: Today's, as composed from ``conf/`` with the overrides.
        overrides: What was typed today.

    Raises:
        UserError: If an override cannot act on a recorded run, or the result is not valid.
    """
    today: dict[str, Any] = OmegaConf.to_container(composed, resolve=False)  # type: ignore[assignment]
    base = {
        name: deepcopy(recorded[name]) for name in recorded if name in today
    }  # others are of another version
    base |= {name: today[name] for name in DIRECTIVES}
    base["tracking"] = {**base.get("tracking", {}), "uri": today["tracking"]["uri"]}
    merged = deepcopy(base)
    typed = [one for one in OverridesParser.create().parse_overrides(list(overrides)) if _is_setting(one)]
    for override in sorted(typed, key=lambda one: not _is_choice(one)):  # choices first, as Hydra has it
        _apply(override, merged, today)
    config = parse(OmegaConf.create(merged), TrainConfig)
    before = parse(OmegaConf.create(base), TrainConfig)
    return config, changes(before.model_dump(), config.model_dump())


def changes(then: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Changes:
    """Return all settings that differ, by their names with dots.

    >>> changes({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}, "d": None})
    {'a.b': (1, 3), 'd': ('not set', None)}
    """
    found: Changes = {}
    for key in dict.fromkeys([*then, *now]):
        before, after = then.get(key, ABSENT), now.get(key, ABSENT)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= changes(before, after, f"{prefix}{key}.")
        elif before != after:
            found[prefix + key] = (before, after)
    return found


def _is_setting(override: Override) -> bool:
    key = override.key_or_group
    return key.split(".")[0] not in DIRECTIVES and not key.startswith("hydra") and key != "tracking.uri"


def _is_choice(override: Override) -> bool:
    return override.key_or_group in GROUPS and not override.is_delete()


def _apply(override: Override, merged: dict[str, Any], today: dict[str, Any]) -> None:
    key = override.key_or_group
    if key == "experiment":
        hint = "Name its settings one by one, or start a new run."
        raise UserError(f"{key}: cannot be chosen for a recorded run", hint=hint)
    if _is_choice(override):
        if _variant(key, today.get(key)) != _variant(key, merged.get(key)):
            merged[key] = today[key]
        return
    path = tuple(key.split("."))
    if override.is_delete():
        _parent(merged, path).pop(path[-1], None)
        return
    for leaf in _leaves(path, override.value()):
        _parent(merged, leaf)[leaf[-1]] = _parent(today, leaf)[leaf[-1]]


def _variant(group: str, settings: Any) -> Any:
    name = GROUPS[group]
    return settings.get(name) if isinstance(settings, dict) and name else settings is None


def _leaves(path: Path, value: Any) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves((*path, getattr(name, "text", str(name))), inner)
    else:
        yield path


def _parent(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path[:-1]:
        inner = settings.get(name)
        if not isinstance(inner, dict):
            inner = settings[name] = {}
        settings = inner
    return settings
