"""The children of a sweep in rows, and with the seeds taken together."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, nan

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from foretrace.sweeps import jobs
from foretrace.sweeps.children import TEST, VALID, Child
from foretrace.sweeps.jobs import Job

SEED = "seed"  # a repeat of the same settings, not a setting
RESULTS = (VALID, TEST, "test/l1", "test/raw/mse", "skill")
LEVEL = 0.95
Row = dict[str, str]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its 95 % t-interval, and the seeds' standard deviation; NaN for a single seed.

    >>> found = Estimate.of([1.0, 2.0, 3.0])
    >>> f"{found.mean:.2f} from {found.low:.2f} to {found.high:.2f}"
    '2.00 from -0.48 to 4.48'
    """

    mean: float
    low: float = nan
    high: float = nan
    sd: float = nan

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Student's interval: the seeds' results are taken as independent draws from a normal distribution."""
        if not values:
            return cls(nan)
        mean, n = float(np.mean(values)), len(values)
        if n == 1 or not isfinite(mean):
            return cls(mean)
        sd = float(np.std(values, ddof=1))
        half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * sd / np.sqrt(n))
        return cls(mean, mean - half, mean + half, sd)


@dataclass(frozen=True)
class Group:
    """Children that differ in the seed only."""

    settings: Row
    children: tuple[Child, ...]

    @cached_property
    def results(self) -> dict[str, Estimate]:
        """Of each result, over the children that have one."""
        done = [child.metrics for child in self.children if child.has_result]
        return {name: Estimate.of([one[name] for one in done if name in one]) for name in RESULTS}

    @property
    def n(self) -> int:
        """How many children have a result."""
        return sum(child.has_result for child in self.children)


def varied(children: Sequence[Child]) -> list[str]:
    """Names of the settings that are not the same in all children."""
    return jobs.varied(child.job for child in children)


def groups(children: Sequence[Child]) -> list[Group]:
    """Children with equal settings but for the seed, together; in the order in which they come."""
    names = [name for name in varied(children) if name != SEED]
    found: dict[tuple[str, ...], list[Child]] = {}
    for child in children:
        found.setdefault(tuple(child.settings.get(name, "") for name in names), []).append(child)
    return [Group(dict(zip(names, values, strict=True)), tuple(members)) for values, members in found.items()]


def best(found: Sequence[Group]) -> tuple[Group, Child] | None:
    """The settings with the lowest mean validation error, and the child of them with the lowest.

    The test error has no say. Settings of which a seed is missing have none either: a mean over fewer seeds
    is low by luck more often. A search may come by the same settings twice; that is no missing seed elsewhere.
    """
    most = max((group.n for group in found), default=0)
    if any(child.trial is not None for group in found for child in group.children):
        most = min(most, 1)
    candidates = [group for group in found if group.n >= most and isfinite(group.results[VALID].mean)]
    if not most or not candidates:
        return None
    group = min(candidates, key=lambda group: group.results[VALID].mean)
    done = [child for child in group.children if child.has_result]
    return group, min(done, key=lambda child: child.metrics.get(VALID, inf))


def child_rows(children: Sequence[Child], failures: Mapping[Job, str]) -> list[Row]:
    """One row per job. Errors only of what was done; of what a search pruned, the validation error."""
    names = varied(children)
    return [_child_row(number, child, names, failures) for number, child in enumerate(children, start=1)]


def group_rows(found: Sequence[Group]) -> list[Row]:
    """One row per settings, the lowest mean validation error first."""
    return [_group_row(group) for group in sorted(found, key=_rank)]


def to_csv(rows: Sequence[Row]) -> str:
    """A table that MLflow shows as such."""
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()


def status(child: Child, failures: Mapping[Job, str]) -> str:
    """What became of a child, in a word."""
    return "PRUNED" if child.pruned else "FAILED" if _has_failed(child, failures) else child.status


def _has_failed(child: Child, failures: Mapping[Job, str]) -> bool:
    return child.run_id is None and child.job in failures


def _child_row(number: int, child: Child, names: Sequence[str], failures: Mapping[Job, str]) -> Row:
    shown = RESULTS if child.has_result else (VALID,) if child.pruned else ()
    reason = child.error or (failures[child.job] if _has_failed(child, failures) else "")
    return (
        {"job": str(number), "status": status(child, failures)}
        | {name: child.settings.get(name, "") for name in names}
        | {name: _figure(child.metrics.get(name, nan)) if name in shown else "" for name in RESULTS}
        | {"best epoch": f"{child.metrics['best epoch']:.0f}" if "best epoch" in child.metrics else ""}
        | {"duration_s": _figure(child.duration_s), "run_id": child.run_id or "", "error": reason}
    )


def _group_row(group: Group) -> Row:
    row = group.settings | {"n": str(group.n)}
    for name, estimate in group.results.items():
        row |= {name: _figure(estimate.mean)}
        row |= {f"{name} 95% low": _figure(estimate.low), f"{name} 95% high": _figure(estimate.high)}
        row |= {f"{name} sd": _figure(estimate.sd)}
    return row


def _rank(group: Group) -> float:
    mean = group.results[VALID].mean
    return mean if isfinite(mean) else inf


def _figure(value: float) -> str:
    """Empty where there is none."""
    return "" if value != value else f"{value:.6g}"
