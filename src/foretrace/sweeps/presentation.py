"""What a parent run shows of its children: tables, pictures, tags, one page."""

from collections.abc import Mapping, Sequence

from foretrace.sweeps.children import Child
from foretrace.tracking.run import TrackedRun


def name(jobs: Sequence[Sequence[str]] | None, command: Sequence[str]) -> str:
    """A parent's name, by what is varied."""
    return "sweep"


def present(tracked: TrackedRun, children: Sequence[Child], failures: Mapping[tuple[str, ...], str]) -> None:
    """Writes everything anew."""
