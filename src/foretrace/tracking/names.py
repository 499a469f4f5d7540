"""Names of metrics, settings and tags as MLflow takes them, and back."""

import posixpath
import re

LONGEST = 250  # characters of a name, MLflow's limit
_ILLEGAL = r"[^\w/.\- :]"
_ESCAPED = re.compile(rf"{_ILLEGAL}|_(?=x[0-9a-f]+(?:_|{_ILLEGAL}))")


def escape(name: str) -> str:
    """Return a name with `_x<code>_` for each character that MLflow does not take.

    >>> escape("skill/CO2 (%)"), escape("test/mse"), unescape(escape("a//b%"))
    ('skill/CO2 _x28__x25__x29_', 'test/mse', 'a//b%')
    """
    text = _ESCAPED.sub(lambda found: f"_x{ord(found[0]):x}_", name)
    if (
        posixpath.normpath(text) != text or text == "." or text.startswith(("/", ".."))
    ):  # no path that MLflow takes
        text = re.sub("[/.]", lambda found: f"_x{ord(found[0]):x}_", text)
    return text[:LONGEST]


def unescape(name: str) -> str:
    """Return the name that was escaped, if it was no longer than MLflow takes."""
    return re.sub("_x([0-9a-f]{1,6})_", lambda found: chr(min(int(found[1], 16), 0x10FFFF)), name)
