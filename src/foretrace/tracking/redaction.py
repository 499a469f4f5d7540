"""Passwords and keys out of what is recorded."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_WORD = r"(?:passw(?:or)?ds?|passphrase|tokens?|secrets?|api[_-]?key|access[_-]?key|credentials?|signature)"
# From the beginning of a word: to begin at each letter takes the square of a text's length.
_NAME = rf"(?<![\w.+-])[\w.+-]*{_WORD}(?![a-z])[\w.-]*"
# Between :// and the last @ of an address, also where a password holds an @ or a / that it should not.
_USER = re.compile(r"(?<=://)(?:[^/:@]*:(?!\d+/)(?:(?!, ).)*@|(?:(?!, )[^/])*@)")
_WHOLE = re.compile(rf"^([+~]*{_NAME}=).+", re.IGNORECASE | re.DOTALL)
_INNER = re.compile(rf"({_NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,&}}\]]+)", re.IGNORECASE)
_HEADER = re.compile(r"\b(bearer|basic)\s+[^\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide what gives access: users and passwords in addresses, and values of what is named like a secret.

    The text is one argument of a command, or one value.

    >>> redact("tracking.uri=http://ann:p%40ss@host:5000/path")
    'tracking.uri=http://***@host:5000/path'
    >>> redact("tracking.tags={token: abc, who: ann}")
    'tracking.tags={token: ***, who: ann}'
    """
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _WHOLE.sub(rf"\1{HIDDEN}", text)
    text = _INNER.sub(rf"\1{HIDDEN}", text)
    return _HEADER.sub(rf"\1 {HIDDEN}", text)


def redacted(value: Any, name: str = "") -> Any:
    """Hide what gives access in nested plain values, where a key can name a secret.

    >>> redacted({"MLFLOW_TRACKING_TOKEN": "abc", "tracking": {"uri": "http://ann:pw@host"}, "seed": [1, 2]})
    {'MLFLOW_TRACKING_TOKEN': '***', 'tracking': {'uri': 'http://***@host'}, 'seed': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner, name) for inner in value]
    if value is not None and re.fullmatch(_NAME, name, re.IGNORECASE):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value
