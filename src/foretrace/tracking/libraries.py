"""Which libraries are installed, which were really imported, and whether they are those of the lock."""

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LOCK = "requirements.lock"
# The libraries whose versions can change a result, each worth a label of the run. The rest is in its artifacts.
LIBRARIES = (
    "torch",
    "lightning",
    "torchmetrics",
    "numpy",
    "hydra-core",
    "mlflow",
    "gymnasium",
    "mujoco",
    "pyarrow",
)


@cache  # as they were when first asked for: what is installed later is not what this process imported
def installed() -> Mapping[str, str]:
    """Version of every installed distribution, by its normal name."""
    found: dict[str, str] = {}
    for name, version, _ in _distributions():
        found.setdefault(name, version)  # the first on the path is imported
    return dict(sorted(found.items()))


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that matter most."""
    found = installed()
    return {"python": platform.python_version(), **{name: found[name] for name in LIBRARIES if name in found}}


def pins(names: Iterable[str] | None = None) -> str:
    """Installed distributions with their versions, as ``pip install --requirement`` reads them."""
    found = installed()
    return "".join(f"{name}=={found[name]}\n" for name in (found if names is None else sorted(names)))


def imported() -> list[str]:
    """The distributions from which this process has imported something so far."""
    return sorted({owner for path in _loaded().values() if (owner := _owners().get(path))})


def unpackaged(root: Path) -> dict[str, str]:
    """Imported packages that belong to no distribution, and where they lie: the checkout's own, and strays."""
    usual = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    found = {}
    for name, path in sorted(_loaded().items()):
        if "." not in name and path not in _owners() and not path.startswith(usual):
            found[name] = os.path.relpath(path, root) if Path(path).is_relative_to(root) else path
    return found


def deviations(lock: str, names: Iterable[str]) -> list[str]:
    """Where the installed versions are not those of a lock, one line each.

    Args:
        lock: Its text.
        names: The distributions that matter.

    >>> deviations(pins(["packaging"]), ["packaging"])
    []
    """
    locked, found = _pins_of(lock), installed()
    lines = []
    for name in names:
        if name not in locked:
            lines.append(f"{name}: {found[name]}, which the lock does not have")
        elif not locked[name].contains(found[name], prereleases=True):  # 2.13.0+cpu is a 2.13.0
            lines.append(f"{name}: {found[name]}, where the lock has {locked[name]}")
    return lines


def _pins_of(lock: str) -> dict[str, SpecifierSet]:
    pins: dict[str, SpecifierSet] = {}
    for line in lock.splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].rstrip(" \\"))
        except InvalidRequirement:  # a comment, an option, a hash
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            pins[canonicalize_name(requirement.name)] = requirement.specifier
    return pins


def _loaded() -> dict[str, str]:
    """Files of all imported modules by name. A module may be anything, and come while we look."""
    found = {
        name: vars(m).get("__file__") for name, m in list(sys.modules.items()) if isinstance(m, ModuleType)
    }
    return {name: path for name, path in found.items() if isinstance(path, str)}


@cache
def _owners() -> Mapping[str, str]:
    """The distribution of each installed file.

    `metadata.packages_distributions` takes a second here, and knows packages only: some share one.
    """
    owners: dict[str, str] = {}
    for name, _, distribution in _distributions():
        folder = distribution.locate_file("")
        for line in (distribution.read_text("RECORD") or "").splitlines():
            owners.setdefault(f"{folder}/{line.partition(',')[0]}", name)
    return owners


@cache  # the descriptions of 160 distributions take a tenth of a second to read
def _distributions() -> Sequence[tuple[str, str, metadata.Distribution]]:
    """Normal name and version of each installed distribution, and itself, in the order of the path."""
    described = [(distribution.metadata, distribution) for distribution in metadata.distributions()]
    return [
        (canonicalize_name(about["Name"]), about["Version"], one) for about, one in described if about["Name"]
    ]
