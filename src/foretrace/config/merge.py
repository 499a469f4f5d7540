"""The settings of a recorded run, changed by what is asked for today."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from foretrace.config.parse import parse
from foretrace.config.training import TrainConfig
from foretrace.errors import UserError

Changes = dict[str, tuple[Any, Any]]  # setting: value then, value now
# What tells the choices of a group apart; the only network has no name.
GROUPS = {"data": "source", "optimizer": "name", "scheduler": "name", "model": "name"}
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
    base = {name: recorded[name] for name in recorded if name in today}  # others are of another version
    base |= {name: today[name] for name in DIRECTIVES}
    base["tracking"] = {**base.get("tracking", {}), "uri": today["tracking"]["uri"]}
    merged = OmegaConf.create(base)
    typed = [(one.key_or_group, one) for one in OverridesParser.create().parse_overrides(list(overrides))]
    # Choices first, as Hydra has it.
    for key, override in sorted(typed, key=lambda one: one[0] not in GROUPS or one[1].is_delete()):
        group, _, name = key.rpartition(".")
        if key.split(".")[0] in DIRECTIVES or key.startswith("hydra") or key == "tracking.uri":
            continue
        if key == "experiment":
            hint = "Name its settings one by one, or start a new run."
            raise UserError(f"{key}: cannot be chosen for a recorded run", hint=hint)
        if override.is_delete():
            (OmegaConf.select(merged, group) if group else merged).pop(name, None)
        elif key in GROUPS:
            then, now = ((settings.get(key) or {}).get(GROUPS[key]) for settings in (merged, today))
            if then != now:
                merged[key] = today[key]
        else:
            value = override.value()
            OmegaConf.update(merged, key, value, merge=bool(value))
    config, before = (parse(one, TrainConfig) for one in (merged, OmegaConf.create(base)))
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
