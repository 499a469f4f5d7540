"""The jobs of a sweep as the tracking store knows them, one child for each; and the tables of their results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from scipy.special import stdtrit  # type: ignore[import-untyped]

from foretrace.errors import DivergedError, UserError
from foretrace.sweeps.jobs import Job, brief, own, settings
from foretrace.tracking.recovery import Process
from foretrace.tracking.stored import StoredRun

VALID = "val/mse"
SEED = "seed"  # a repeat of the same settings, not a setting
RESULTS = [VALID, "test/mse", "test/l1", "test/raw/mse", "skill"]
SHOWN = [VALID, "test/mse", "skill"]  # in the terminal and in the parent's description
LEVEL = 0.95
MAX_ROWS = 20  # there; the files have all
CHECKPOINTS = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt")  # a kill may come between two of them


@dataclass(frozen=True)
class Child:
    """One job of a sweep, with the run that counts for it."""

    job: Job  # its own overrides
    run_id: str | None = None  # None if it was never begun
    # Else MLflow's word for the run; in a search also PRUNED, and DIVERGED: a result.
    status: str = "NOT STARTED"
    trial: int | None = None  # of a search
    # Last values; of val/mse the lowest, as weights are kept.
    metrics: dict[str, float] = field(default_factory=dict)
    has_checkpoint: bool = False
    at_work: bool = False  # a process is at work on it, or may be, on another host
    duration_s: float = nan  # from its first beginning to its last end
    error: str = ""  # what it failed of, in one line

    @property
    def key(self) -> Job | int:
        """What identifies it: its job in a grid, the trial's number in a search."""
        return self.job if self.trial is None else self.trial

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.status in ("FINISHED", "PRUNED", "DIVERGED")

    @property
    def has_ended(self) -> bool:
        """Whether it is done or failed; what was killed is taken up again."""
        return self.is_done or self.status == "FAILED"


def read_child(client: MlflowClient, run: Run, *, staging: Path) -> Child:
    """Return the child that a run is.

    Raises:
        UserError: If its tags name no job.
    """
    info, tags, metrics = run.info, run.data.tags, dict(run.data.metrics)
    try:
        job = json.loads(tags["sweep.job"])
        trial = int(tags["sweep.trial"]) if "sweep.trial" in tags else None
        if not (isinstance(job, list) and all(isinstance(one, str) for one in job)):
            raise ValueError("no list of settings")
    except (ValueError, RecursionError) as wrong:
        hint = f"`mlflow runs delete --run-id {info.run_id}` leaves it out."
        raise UserError(f"run {info.run_id}: its tags name no job of a sweep ({wrong})", hint=hint) from wrong
    if VALID in metrics:
        points = client.get_metric_history(info.run_id, VALID)
        metrics[VALID] = min((point.value for point in points if isfinite(point.value)), default=nan)
    error = tags.get("error", "") if info.status != "FINISHED" else ""
    diverged = trial is not None and error.startswith(DivergedError.__name__)
    process, stored = Process.of_tags(tags), StoredRun(client, run, staging=staging)
    found = [name for name in CHECKPOINTS if stored.has_artifact(name) or (stored.folder / name).exists()]
    return Child(
        job=own(job),
        run_id=info.run_id,
        status="PRUNED" if "pruned" in tags else "DIVERGED" if diverged else info.status,
        trial=trial,
        metrics=metrics,
        has_checkpoint=info.status != "FINISHED" and bool(found),
        at_work=info.status == "RUNNING" and process is not None and process.is_alive() is not False,
        duration_s=(info.end_time - info.start_time) / 1000 if info.end_time else nan,
        error=error,
    )


def the_one_that_counts(children: Sequence[Child]) -> Child:
    """Return which of a job's runs, oldest first, counts: finished, else done, else resumable, else the latest.

    >>> killed = Child(("seed=1",), "a", "KILLED", has_checkpoint=True)
    >>> the_one_that_counts([killed, Child(("seed=1",), "b", "FAILED")]).run_id
    'a'
    """
    rank = lambda one: (one.status == "FINISHED", one.is_done, one.has_checkpoint)  # noqa: E731
    return max(reversed(children), key=rank)


class Best(NamedTuple):
    """The best combination of settings, and the best of its children."""

    label: str
    child: Child
    means: dict[str, float]
    n: int  # children with a result


class Summary:
    """Tables of a sweep's children, one for each job, which the settings of these names set apart.

    Attributes:
        jobs: One row per job. Errors only of what was finished; of what a search pruned, the validation error.
        combinations: One row per combination of settings: mean over seeds, Student's 95 % interval, standard
            deviation and number of each result, the lowest mean validation error first.
        counts: How many jobs there are, and how many are done, failed, pruned, diverged.
    """

    def __init__(self, children: Sequence[Child], *, names: Sequence[str]) -> None:
        self._children, self._names = list(children), list(names)
        self._by = [name for name in names if name != SEED]
        columns = ["status", *names, *RESULTS, "best epoch", "duration_s", "run_id", "error"]
        rows = [_row(child) for child in children]
        self.jobs = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="job"), columns=columns)
        results = self.jobs[RESULTS].astype(float).where(self.jobs["status"] == "FINISHED")
        by = [self.jobs[name].fillna("") for name in self._by]
        groups = results.groupby(by or [pd.Series("all", self.jobs.index, name="settings")], sort=False)
        mean, n = groups.mean(), groups.count()
        half = groups.sem() * stdtrit((n - 1).clip(lower=1), (1 + LEVEL) / 2)
        parts = {"": mean, " 95% low": mean - half, " 95% high": mean + half, " sd": groups.std()}
        table = {f"{name}{part}": values[name] for name in RESULTS for part, values in parts.items()}
        self.combinations = pd.DataFrame({"n": n[VALID]} | table).sort_values(VALID, kind="stable")
        statuses = [child.status for child in children]
        self.counts = {"jobs": len(rows), "done": sum(child.is_done for child in children)}
        self.counts |= {word.lower(): statuses.count(word) for word in ("FAILED", "PRUNED", "DIVERGED")}

    @property
    def best(self) -> Best | None:
        """The settings with the lowest mean validation error, and the child of them with the lowest.

        The test error has no say. Settings of which a seed is missing have none either: a mean over fewer seeds
        is low by luck more often. A search may come by the same settings twice; that is no missing seed elsewhere.
        """
        is_search = any(child.trial is not None for child in self._children)
        least = 1 if is_search or self.combinations.empty else max(1, self.combinations["n"].max())
        fit = self.combinations[self.combinations["n"] >= least].reset_index()
        if fit.empty:
            return None
        finished = self.jobs[self.jobs["status"] == "FINISHED"].fillna(dict.fromkeys(self._by, ""))
        alike = finished[(finished[self._by] == fit.iloc[0][self._by]).all(axis=1)]
        child = self._children[int(alike[VALID].astype(float).idxmin()) - 1]
        means = fit.iloc[0][RESULTS].dropna().to_dict()
        return Best(brief(child.job, self._by) or "all the same", child, means, int(fit.iloc[0]["n"]))

    def verdict(self, number: int) -> str:
        """Return how far the sweep got of a number of jobs, what failed, and what is best, in a sentence."""
        told = f"{self.counts['done']} of {number} jobs done"
        for word in ("pruned", "diverged"):
            told += f", {self.counts[word]} of them {word}" if self.counts[word] else ""
        if (failed := self.jobs.index[self.jobs["status"] == "FAILED"]).size:
            names = [brief(self._children[at - 1].job, self._names) for at in failed[:5]]
            told += f", {len(failed)} failed: {'; '.join(names)}{', …' if len(failed) > 5 else ''}"
        if best := self.best:
            told += f"; best {best.child.run_id} {VALID}={best.child.metrics[VALID]:.6g}"
            told += f" ({brief(best.child.job, self._names)})" if self._names else ""
            told += f", mean over {best.n} seeds {best.means[VALID]:.6g}" if best.n > 1 else ""
        return told

    def text(self) -> pd.DataFrame:
        """Return the first combinations for people, with ``mean ± half of the interval`` in one column each."""
        found = self.combinations.head(MAX_ROWS).reset_index()
        for name in SHOWN:
            arms = found[f"{name} 95% high"] - found[name]
            texts = [f"{mean:.4g} ± {arm:.2g}" for mean, arm in zip(found[name], arms, strict=True)]
            found[name] = [text.removesuffix(" ± nan").removeprefix("nan") for text in texts]
        return found[[*(self._by or ["settings"]), "n", *SHOWN]].astype(str)

    def markdown(self) -> str:
        """Return the same for MLflow's page of the run, with a link to the best child above it."""
        table, best = self.text(), self.best
        cells = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
        link = f"Best by validation error: [{best.label}](#/runs/{best.child.run_id})\n" if best else ""
        return "\n".join([link, *lines])


def _row(child: Child) -> dict[str, object]:
    shown = {"FINISHED": RESULTS, "PRUNED": [VALID]}.get(child.status, [])
    results = {name: child.metrics.get(name) for name in [*shown, "best epoch"]}
    told = {name: getattr(child, name) for name in ("status", "duration_s", "run_id", "error")}
    return settings(child.job) | results | told
