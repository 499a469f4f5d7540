"""Names of metrics, settings and tags as MLflow takes them, and back."""

import posixpath
import re

LONGEST = 250  # characters of a name, MLflow's limit


def escape(name: str) -> str:
    """Return a name with `_x<code>_` for each character that MLflow does not take.

    >>> escape("skill/CO2 (%)"), escape("test/mse"), unescape(escape("a//b%"))
    ('skill/CO2 _x28__x25__x29_', 'test/mse', 'a//b%')
    """
    text = _escaped(name, illegal=r"[^\w/.\- :]")
    if (
        posixpath.normpath(text) != text or text == "." or text.startswith(("/", ".."))
    ):  # no path that MLflow takes
        text = _escaped(name, illegal=r"[^\w\- :]")
    return text[:LONGEST]


def _escaped(name: str, *, illegal: str) -> str:
    """Replace what is illegal, and each ``_`` that would then read as the beginning of a replacement."""
    ambiguous = rf"_(?=x[0-9a-f]+(?:_|{illegal}))"
    return re.sub(f"{illegal}|{ambiguous}", lambda found: f"_x{ord(found[0]):x}_", name)


def unescape(name: str) -> str:
    """Return the name that was escaped, if it was no longer than MLflow takes."""
    return re.sub("_x([0-9a-f]{1,6})_", lambda found: chr(min(int(found[1], 16), 0x10FFFF)), name)
