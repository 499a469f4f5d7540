"""The settings of a recorded run, read as plain values and changed by what is asked for today.

Whoever can write to the store could have written them: nothing in them is resolved, looked up or instantiated, and
they cannot say where runs go.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from foretrace.config.commands import DescribeConfig, TrainConfig
from foretrace.config.data import DataConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError

LARGEST, LARGEST_JSON = 1 << 18, 1 << 22  # bytes; a run has a thousand, a sweep sixty for each job
DEEPEST = 20  # lists and mappings in each other
LONGEST = 10_000  # characters of a value; YAML takes the square of its length to read a time such as 1:1:1
INTERPOLATION = re.compile(r"\$\\*\{")  # in an override also $\{, of which Hydra makes one
# How a run starts is no property of it; a server's address may hold a password. Neither is recorded (pydantic's
# `exclude`) nor read from a record, which would send runs elsewhere, or start others.
DIRECTIVES = ("resume", "rerun", "sweep")
NOT_RECORDED: dict[str, Any] = dict.fromkeys(DIRECTIVES, True) | {"tracking": {"uri"}}
# A setting as it is typed, or a choice of a group: a file in conf/, not one above it.
OVERRIDE = re.compile(r"[+~]{0,2}(?!hydra\b)[A-Za-z_]\w*([./]\w+)*(=.*)?", re.DOTALL)

Changes = dict[str, tuple[Any, Any]]  # setting: value then, value now
# What tells the choices of a group apart; the only network has no name.
GROUPS = {"data": "source", "optimizer": "name", "scheduler": "name", "model": "name"}
ABSENT = "not set"


def read_run_config(path: Path, *, key: str) -> dict[str, Any]:
    """Read the settings of a run from its ``config.yaml``, under their names of today.

    Raises:
        UserError: If it is damaged, or holds something else than plain values; begins with the ``key`` that named it.
    """
    settings = _read(path, _plain_yaml, largest=LARGEST, key=key)
    for name in (*DIRECTIVES, "hydra"):
        settings.pop(name, None)
    if isinstance(tracking := settings.get("tracking"), dict):
        tracking.pop("uri", None)
    return upgrade(settings)


def read_data_config(path: Path) -> DataConfig:
    """Read the settings of the data that a run was trained on from its ``config.yaml``.

    Raises:
        UserError: If it is damaged, or this version does not know such data.
    """
    recorded = read_run_config(path, key="run")
    try:
        return parse({"data": recorded.get("data")}, DescribeConfig).data
    except UserError as error:
        hint = "Name the data to evaluate the run on: data=…"
        raise UserError(f"{path}: {error.message}", hint=hint) from error


def read_json(path: Path, *, key: str) -> dict[str, Any]:
    """Read a record in JSON.

    Raises:
        UserError: If it is damaged or no mapping.
    """
    return _read(path, json.loads, largest=LARGEST_JSON, key=key)


def upgrade(settings: dict[str, Any]) -> dict[str, Any]:
    """Give settings that 0.1.0 recorded the names of today."""
    for group, old, new in (("data", "inputs", "covariates"), ("trainer", "weight_averaging", "ema_decay")):
        if isinstance(inner := settings.get(group), dict) and old in inner:
            inner[new] = inner.pop(old)
    if isinstance(data := settings.get("data"), dict) and data.get("missing") == "refuse":
        data["missing"] = "error"
    return settings


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


def check_overrides(overrides: Iterable[Any], *, key: str) -> None:
    """Let overrides of recorded jobs be settings alone: nothing of Hydra's, nothing to be looked up.

    Raises:
        UserError: If one does more; begins with the ``key`` that named the run.

    >>> check_overrides(["data=files", "+optimizer.betas=[0.8,0.9]"], key="sweep.resume")
    """
    for one in overrides:
        plain = isinstance(one, str) and OVERRIDE.fullmatch(one) and not INTERPOLATION.search(one)
        name, _, value = str(one).partition("=")
        group = name.lstrip("+~")
        elsewhere = group in DIRECTIVES or (group == "tracking" and "uri" in value)
        leaves_conf = "." not in name and ".." in value
        if not plain or elsewhere or "_target_" in one or leaves_conf:
            raise UserError(f"{key}: its record holds {one!r}, which is no setting", hint="Start a new run.")


def _read(path: Path, load: Callable[[str], Any], *, largest: int, key: str) -> dict[str, Any]:
    try:
        if not path.is_file():  # a pipe would never end
            raise ValueError("a folder or a device")
        if path.stat().st_size > largest:
            raise ValueError(f"more than {largest:,} bytes")
        found = load(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise ValueError("no mapping of names to values")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{key}: {path} cannot be used: {error}", hint="Start a new run instead.") from error
    return found


def _plain_yaml(text: str) -> Any:
    """Load YAML without types and references: by those of YAML's own, a kilobyte can mean gigabytes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        if getattr(event, "anchor", None) or getattr(event, "tag", None):  # an alias has its anchor
            raise ValueError("a reference or a type")
        value = getattr(event, "value", "")
        if len(value) > LONGEST:
            raise ValueError(f"a value of more than {LONGEST:,} characters")
        if INTERPOLATION.search(value):
            raise ValueError("a value refers to another one")
    return yaml.load(text, Loader=yaml.CSafeLoader)
