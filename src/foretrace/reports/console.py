"""What a command tells the person who started it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size

import numpy as np

from foretrace.data.sources import WindowDataModule
from foretrace.errors import sanitize
from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.forecast_errors import CALIBRATED, MODEL, ForecastErrors
from foretrace.evaluation.open_loop import OpenLoop
from foretrace.evaluation.result import EvaluationResult

MOST_COLUMNS = 12  # that are named in a line


@dataclass(frozen=True)
class Table:
    """Rows under a heading; the first column is text, so are the others if there is but one, else figures."""

    caption: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self, *, indent: str = "") -> str:
        """Return lines whose columns never run together: the first at the left, the others at the right.

        What is wider than the terminal goes on below, beside the first column again.

        >>> print(Table("", ["layer", "trainable"], [["lstm.0", "75,264"], ["a long name", "1"]]).text())
        layer        trainable
        lstm.0          75,264
        a long name          1
        """
        lines = (self.heading, *self.rows)
        first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
        ends = len(indent) + first + np.cumsum(np.add(others, 2))
        shown = max(1, int((ends <= get_terminal_size(fallback=(1000, 0)).columns).sum()))
        text = [
            indent + "  ".join([f"{name:<{first}}", *map(str.rjust, cells[:shown], others)])
            for name, *cells in lines
        ]
        if shown < len(others):
            head, *below = [(row[0], *row[shown + 1 :]) for row in lines]
            text.append(Table(self.caption, head, below).text(indent=indent))
        return "\n".join(text)


def parameters(counts: Mapping[str, tuple[int, int]]) -> Table:
    """Return trainable and frozen parameters, layer by layer.

    >>> print(parameters({"lstm.0": (75264, 0), "head": (0, 8721)}).text())
    layer   trainable  frozen
    lstm.0     75,264       0
    head            0   8,721
    total      75,264   8,721
    """
    total = tuple(sum(column) for column in zip(*counts.values(), strict=True))
    rows = [(name, *(f"{n:,}" for n in pair)) for name, pair in (*counts.items(), ("total", total))]
    return Table("Parameters", ("layer", "trainable", "frozen"), rows)


def parts(module: WindowDataModule) -> Table:
    """Return the size of each part."""
    rows = [
        (part, f"{len(w.sequences):,}", f"{w.sequences.num_rows:,}", f"{len(w):,}")
        for part, w in module.windows.items()
    ]
    return Table("The parts", ("part", "episodes", "rows", "windows"), rows)


def data(name: str, module: WindowDataModule) -> str:
    """Return what the data are: features, what was done to them on the way, and the size of each part."""
    lines = [f"data     {name}: {describe_columns(module)}"]
    if notes := describe_notes(module.windows["train"].sequences.notes):
        lines.append(f"         {notes}")
    warnings = [f"warning  {sanitize(text)}" for text in module.warnings]
    return "\n".join([*lines, parts(module).text(indent="  "), *warnings])


def describe_columns(module: WindowDataModule, *, most: int = MOST_COLUMNS, longest: int = 24) -> str:
    """Return the names of features and covariates, at most so many and so long, and the time step."""
    sequences = module.windows["train"].sequences
    step = "unknown time step" if sequences.dt_s is None else f"time step {sequences.dt_s:g} s"
    told = []
    for what, names in (("feature", sequences.feature_names), ("covariate", sequences.covariate_names)):
        if names:
            shown = [sanitize(name, longest=longest) for name in names[:most]] + ["…"] * (len(names) > most)
            told.append(f"{counted(len(names), what)} ({', '.join(shown)})")
    return "; ".join([*told, step])


def describe_notes(notes: Mapping[str, int]) -> str:
    """Return what was done to the data on the way, where anything was.

    >>> describe_notes({"rows": 1200, "values interpolated": 3, "gaps in time": 0})
    '1,200 rows; 3 values interpolated'
    """
    return "; ".join(f"{count:,} {what}" for what, count in notes.items() if count)


def evaluation(result: EvaluationResult, *, windows: int, length: int) -> str:
    """Return all test errors beside the baselines', and the verdicts in words."""
    errors = result.zero_state.errors
    rows = []
    for name, key in (("model", MODEL), ("last value", PERSISTENCE)):
        means = [(e.mean_mse, e.mean_l1) for e in (errors[key], errors[key].in_units(result.scale))]
        rows.append((name, *(f"{mean:.6f}" for mean in means[0]), *(f"{mean:.6g}" for mean in means[1])))
    one_step = Table("", ("", "MSE", "L1", "MSE, raw units", "L1, raw units"), rows)
    lines = [
        f"test     one step ahead, {windows:,} windows of {length} steps, each from a state of zero",
        one_step.text(indent="  "),
        f"  {verdict(result.skill)}",
    ]
    if (mase := result.mase(errors[MODEL])) is not None:
        seasonal = "the value of a season ago" if "seasonal" in result.chosen else "the last value"
        lines.append(f"  MASE {mase:.4g}: absolute error, where repeating {seasonal} in training has 1")
    if (loop := result.open_loop) is not None:
        starts, recordings = counted(loop.num_starts, "start"), counted(result.num_recordings, "recording")
        lines.append(f"  open loop: {starts} in {recordings}, {loop.warmup} steps read before each")
    if result.carried_state is not None or loop is not None:
        lines.append(by_steps_ahead(result).text(indent="  "))
    if loop is not None and loop.intervals:
        lines.append(intervals(loop).text(indent="  "))
        lines.append(f"  intervals fitted to {result.calibrated_on}")
    lines += [
        f"  {part.replace('_', ' ')} not evaluated: {reason}" for part, reason in result.unavailable.items()
    ]
    return "\n".join(lines + [f"  {line}" for line in result.sentences])


def by_steps_ahead(result: EvaluationResult) -> Table:
    """Return mean squared errors of all forecasts: one step ahead with the state carried, and in open loop."""
    tables: dict[str, Mapping[str, ForecastErrors]] = {}
    if result.carried_state is not None:
        tables["1, state carried"] = result.carried_state.errors
    if (loop := result.open_loop) is not None:
        for h in loop.horizons:
            boosting = {"boosting": result.boosting[h]} if h in result.boosting else {}
            tables[f"{h:,}"] = {name: errors.at(h) for name, errors in loop.errors.items()} | boosting
    names = list(list(tables.values())[-1])  # one step ahead, nothing is calibrated
    rows = [
        (at, *(f"{float(errors[n].mean_mse):.5g}" if n in errors else "" for n in names))
        for at, errors in tables.items()
    ]
    return Table("Mean squared error in training variances", ("MSE, steps ahead", *names), rows)


def intervals(loop: OpenLoop) -> Table:
    """Return, by steps ahead, the coverage of each interval, the width of the widest, and the scores."""
    scores = loop.intervals[CALIBRATED]
    names = [f"{level:g} %" for level in scores.levels]
    crps = {"CRPS" if name == CALIBRATED else name: one.crps for name, one in loop.intervals.items()}
    heading = ("steps ahead", *(f"in {n}" for n in names), f"width {names[-1]}", *crps)
    rows = [
        (
            f"{h:,}",
            *(f"{share:.1%}" for share in scores.coverage[:, h - 1]),
            f"{scores.mean_width[-1, h - 1]:.3g}",
            *(f"{one[h - 1]:.4g}" for one in crps.values()),
        )
        for h in loop.horizons
    ]
    return Table("Intervals: coverage, width and score (CRPS), in standard deviations", heading, rows)


def counted(number: int, what: str) -> str:
    """Return a number with what it counts.

    >>> counted(1, "start"), counted(1200, "start")
    ('1 start', '1,200 starts')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


def verdict(skill: float) -> str:
    """Return the skill in words.

    >>> verdict(-0.2), verdict(0.25)
    ('skill -0.200: worse than repeating the last value', 'skill 0.250: 25% less squared error than the last value')
    """
    if skill <= 0:
        return f"skill {skill:.3f}: {'worse than' if skill < 0 else 'equal to'} repeating the last value"
    return f"skill {skill:.3f}: {skill:.0%} less squared error than the last value"


def whereabouts(run_id: str, folder: Path, seconds: Mapping[str, float], *, address: str) -> str:
    """Return times, and where the run and its figures are; on this machine, `mlflow ui` shows them."""
    spent = ", ".join(
        f"{what} {f'{time / 60:.1f} min' if time >= 90 else f'{time:.1f} s'}"
        for what, time in seconds.items()
    )
    start = "mlflow ui, then " if "//localhost" in address else ""
    return (
        f"time     {spent}\nrun      {run_id}\nreport   {folder / 'report.html'}\nlook     {start}{address}"
    )


def last_line(run_id: str, status: str, metrics: Mapping[str, float]) -> str:
    """Return the line that scripts read."""
    shown = " ".join(
        f"{name}={metrics.get(name, float('nan')):.6g}" for name in ("test/mse", "test/l1", "skill")
    )
    return f"run={run_id} status={status} {shown}"
