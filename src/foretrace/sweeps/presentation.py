"""What a parent run shows of its children: tables, pictures, tags, one page."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan

from matplotlib.figure import Figure
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from foretrace.reports import html
from foretrace.reports.figures.search import search_course
from foretrace.reports.figures.sweeps import setting_effect
from foretrace.sweeps import table
from foretrace.sweeps.children import TEST, VALID, Child
from foretrace.sweeps.jobs import Job, brief, varied
from foretrace.tracking.run import TrackedRun

MAX_ROWS = 200  # on the page; the CSV has all
ON_PAGE = (VALID, TEST, "skill")
NOT_ON_PAGE = ("test/l1", "test/raw/mse", "best epoch")


def name(jobs: Sequence[Sequence[str]] | None, command: Sequence[str]) -> str:
    """A parent's name, by what varies.

    >>> name([["data=files", "seed=1"], ["data=files", "seed=2"]], [])
    'sweep of seed, 2 jobs'
    """
    if jobs is None:
        return "search"
    names = ", ".join(varied(jobs))
    jobs_ = f"{len(jobs)} job{'s' * (len(jobs) > 1)}"
    return f"sweep of {names}, {jobs_}" if names else f"sweep, {jobs_}"


def write_tables(tracked: TrackedRun, children: Sequence[Child], failures: Mapping[Job, str]) -> None:
    """Tables, and tags and metrics of the best, by which the parent sorts among other runs."""
    groups = table.groups(children)
    tracked.log_text("children.csv", table.to_csv(table.child_rows(children, failures)))
    tracked.log_text("summary.csv", table.to_csv(table.group_rows(groups)))
    counts = count(children, failures)
    tracked.set_tags({f"sweep.{what}": number for what, number in counts.items()})
    if found := table.best(groups):
        group, child = found
        settings = ", ".join(f"{key}={value}" for key, value in group.settings.items())
        settings = settings or "all the same"
        link = f"Best by validation error: [{settings}](#/runs/{child.run_id})"  # shown on MLflow's page of the run
        tracked.set_tags({"best_child": child.run_id, "best_settings": settings, MLFLOW_RUN_NOTE: link})
        means = {result: estimate.mean for result, estimate in group.results.items()}
        known = {result: mean for result, mean in means.items() if isfinite(mean)}
        tracked.log_metrics(known, step=1 + max(tracked.history(VALID)[0], default=-1))


def write_pictures(tracked: TrackedRun, children: Sequence[Child], failures: Mapping[Job, str]) -> None:
    """One picture for each setting that varies, and the page with everything."""
    drawn = dict(pictures(children))
    tracked.log_figures((setting.replace("/", "-"), figure) for setting, figure in drawn.items())
    tracked.log_text("report.html", page(tracked.id, children, failures, drawn))


def count(children: Sequence[Child], failures: Mapping[Job, str]) -> dict[str, int]:
    """How many jobs there are, and what became of them."""
    found = [table.status(child, failures) for child in children]
    return {
        "jobs": len(found),
        "done": sum(child.is_done for child in children),
        "failed": found.count("FAILED"),
        "pruned": found.count("PRUNED"),
    }


def pictures(children: Sequence[Child]) -> Iterator[tuple[str, Figure]]:
    """A picture of each setting's effect on the validation error, by its name; of a search, of its course too."""
    if tried := [child for child in children if child.trial is not None and child.status != "RUNNING"]:
        results = [child.metrics.get(VALID, nan) if child.is_done else nan for child in tried]
        numbers = [child.trial or 0 for child in tried]
        yield "trial", search_course(numbers, results, [child.pruned for child in tried])
    done = [child for child in children if child.has_result and VALID in child.metrics]
    names = table.varied(children)  # not of what is done: a picture once made would stay
    settings = [name for name in names if name != table.SEED]
    if not done:
        return
    if not settings and names:
        yield table.SEED, _picture(done, ["all"] * len(done), "all seeds", [])
    for setting in settings:
        values = [child.settings.get(setting, "as it is") for child in done]
        yield setting, _picture(done, values, setting, [name for name in settings if name != setting])


def page(
    run_id: str, children: Sequence[Child], failures: Mapping[Job, str], drawn: Mapping[str, Figure]
) -> str:
    """One page that needs nothing but itself."""
    groups = table.groups(children)
    sentence = verdict(children, failures)
    shown = [
        html.Picture(figure, _of(setting), f"{VALID} against {setting}") for setting, figure in drawn.items()
    ]
    seeds = html.Section(
        "Settings",
        text=("Means over seeds, ± half of Student's 95 % interval, the lowest validation error first.",),
        tables=(_table("Settings, with seeds taken together", _brief(table.group_rows(groups))),),
    )
    jobs = html.Section(
        "Jobs",
        text=("The run of each job is among this one's children in MLflow; children.csv has all of them.",),
        tables=(_table("One row per job", _short(table.child_rows(children, failures))),),
    )
    sections = [seeds, *([html.Section("Pictures", pictures=tuple(shown))] if shown else []), jobs]
    good = all(child.is_done for child in children)
    return html.render(f"Sweep {run_id}", verdict=[sentence], good=good, sections=sections)


def verdict(children: Sequence[Child], failures: Mapping[Job, str]) -> str:
    """How far it got, what failed, and what is best, in a sentence for people and scripts."""
    counts = count(children, failures)
    told = f"{counts['done']} of {counts['jobs']} jobs done"
    told += f", {counts['pruned']} of them pruned" if counts["pruned"] else ""
    failed = [child for child in children if table.status(child, failures) == "FAILED"]
    if failed:
        names = table.varied(children)
        told += f", {len(failed)} failed: {'; '.join(brief(child.job, names) for child in failed[:5])}"
        told += ", …" if len(failed) > 5 else ""
    if found := table.best(table.groups(children)):
        group, child = found
        settings = brief(child.job, table.varied(children))
        told += f"; best {child.run_id} {VALID}={child.metrics.get(VALID, float('nan')):.6g}"
        told += f" ({settings})" if settings else ""
        told += f", mean over {group.n} seeds {group.results[VALID].mean:.6g}" if group.n > 1 else ""
    return told


def _picture(done: Sequence[Child], values: Sequence[str], setting: str, others: Sequence[str]) -> Figure:
    combinations = [brief(child.job, others) for child in done] if others else []
    results = [child.metrics[VALID] for child in done]
    return setting_effect(
        values, results, setting=setting, interval=_interval, others=combinations, of_others=", ".join(others)
    )


def _interval(results: Sequence[float]) -> tuple[float, float, float]:
    found = table.Estimate.of(results)
    return found.mean, found.low, found.high


def _of(setting: str) -> str:
    return f"Lowest validation error of a training (MSE in scaled units) against {setting}."


def _table(caption: str, rows: Sequence[table.Row]) -> html.Table:
    heading = tuple(rows[0]) if rows else ()
    return html.Table(caption, heading, tuple(tuple(row.values()) for row in rows))


def _short(rows: Sequence[table.Row]) -> list[table.Row]:
    """What fits a page."""
    return [{key: value for key, value in row.items() if key not in NOT_ON_PAGE} for row in rows[:MAX_ROWS]]


def _brief(rows: Sequence[table.Row]) -> list[table.Row]:
    """Mean and interval in one cell, and only of what is judged by."""
    return [_brief_row(row) for row in rows[:MAX_ROWS]]


def _brief_row(row: table.Row) -> table.Row:
    brief_row = {key: value for key, value in row.items() if not key.startswith(table.RESULTS)}
    for result in ON_PAGE:
        low, high = row[f"{result} 95% low"], row[f"{result} 95% high"]
        mean, half = float(row[result] or nan), (float(high or nan) - float(low or nan)) / 2
        brief_row[result] = f"{mean:.4g}" * isfinite(mean) + f" ± {half:.2g}" * isfinite(half)
    return brief_row
