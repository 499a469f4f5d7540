"""What a run's record says, taken as plain values: whoever can write to the store could have written it.

Nothing in a record is resolved, looked up or instantiated, and it cannot say where runs go.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from foretrace.errors import InputError

LARGEST, LARGEST_JSON = 1 << 18, 1 << 22  # bytes; ours have a thousand, or sixty for each job of a sweep
DEEPEST = 20  # lists and mappings in each other
LONGEST = 10_000  # characters of a value; a time such as 1:1:1 takes the square of its length to read
INTERPOLATION = re.compile(r"\$\\*\{")  # in an override also $\{, of which Hydra makes one
# Today's alone: a record that had them would send runs elsewhere, or start others.
TODAYS: dict[str, set[str]] = {"": {"resume", "rerun", "sweep", "hydra"}, "tracking": {"uri"}}
# A setting as it is typed, or a choice of a group: a file in conf/, not one above it.
OVERRIDE = re.compile(r"[+~]{0,2}(?!hydra\b)[A-Za-z_]\w*([./]\w+)*(=.*)?", re.DOTALL)
REMEDY = "Start a new run instead."


def read_run_config(path: Path, *, key: str) -> dict[str, Any]:
    """Settings from a run's ``config.yaml``.

    Args:
        path: Of the file.
        key: The setting that named the run, for errors.

    Raises:
        InputError: If it is damaged, or holds something else than plain values.
    """
    expected = {"expected": f"plain settings in {path}", "remedy": REMEDY}
    try:
        text = _read(path, LARGEST)
        _check_events(text)
        settings = yaml.load(text, Loader=yaml.CSafeLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(key, received=" ".join(str(error).split()), **expected) from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise InputError(key, received=f"{type(settings).__name__}", **expected)
    if found := next((one for one in _texts(settings) if INTERPOLATION.search(one)), None):
        raise InputError(key, received=f"{found}, which would be looked up", **expected)
    for group, names in TODAYS.items():
        inner = settings.get(group, {}) if group else settings
        for name in names if isinstance(inner, dict) else ():
            inner.pop(name, None)
    return settings


def read_json(path: Path, *, key: str) -> dict[str, Any]:
    """The same of a record in JSON.

    Raises:
        InputError: If it is damaged or no mapping.
    """
    expected = {"expected": f"a record in JSON in {path}", "remedy": REMEDY}
    try:
        found = json.loads(_read(path, LARGEST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(key, received=str(error), **expected) from error
    if not isinstance(found, dict):
        raise InputError(key, received=type(found).__name__, **expected)
    return found


def check_overrides(overrides: Iterable[Any], *, key: str) -> None:
    """Lets settings of recorded jobs name settings alone: nothing of Hydra's, nothing to be looked up.

    Args:
        overrides: As a record has them.
        key: The setting that named the run, for errors.

    Raises:
        InputError: If one does more.

    >>> check_overrides(["data=files", "+optimizer.betas=[0.8,0.9]"], key="sweep.resume")
    """
    for one in overrides:
        plain = isinstance(one, str) and OVERRIDE.fullmatch(one) and not INTERPOLATION.search(one)
        name, _, value = str(one).partition("=")
        group = name.lstrip("+~")
        elsewhere = group in TODAYS[""] or (group in TODAYS and any(word in value for word in TODAYS[group]))
        is_choice = "." not in name
        if not plain or elsewhere or "_target_" in one or (is_choice and ".." in value):
            expected = "settings alone in the record"
            raise InputError(key, expected=expected, received=repr(one), remedy=REMEDY)


def _read(path: Path, largest: int) -> str:
    if not path.is_file():  # a pipe would never end
        raise ValueError("a folder or a device")
    if path.stat().st_size > largest:
        raise ValueError(f"more than {largest:,} bytes")
    return path.read_text(encoding="utf-8")


def _check_events(text: str) -> None:
    """Refuses names for other things, and references, by which a kilobyte can mean gigabytes.

    Raises:
        ValueError: If there are any.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("a reference (& or *)")
        if getattr(event, "tag", None):
            raise ValueError(f"the tag {event.tag}")
        if len(getattr(event, "value", "")) > LONGEST:
            raise ValueError(f"a value of more than {LONGEST:,} characters")


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
