"""What a run says to the person who started it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from foretrace.data.datamodule import WindowDataModule
from foretrace.evaluation.episode_errors import EpisodeErrors
from foretrace.evaluation.evaluate import EvaluationResult
from foretrace.evaluation.one_step import Evaluation

OPEN_LOOP = "open loop, "  # how `EvaluationResult.losses` names a place there


def parameters(counts: Mapping[str, tuple[int, int]]) -> str:
    """A table of trainable and frozen parameters, layer by layer.

    >>> print(parameters({"lstm.0": (75264, 0), "head": (0, 8721)}))
    layer       trainable       frozen
    lstm.0         75,264            0
    head                0        8,721
    total          75,264        8,721
    """
    total = tuple(sum(column) for column in zip(*counts.values(), strict=True))
    rows = [f"{name:<8}{trainable:>13,}{frozen:>13,}" for name, (trainable, frozen) in counts.items()]
    return "\n".join(
        [f"{'layer':<8}{'trainable':>13}{'frozen':>13}", *rows, f"{'total':<8}{total[0]:>13,}{total[1]:>13,}"]
    )


def data(name: str, module: WindowDataModule) -> str:
    """One line per part: episodes, rows, windows."""
    lines = [f"data     {name}"]
    for part, windows in module.windows.items():
        sequences = windows.sequences
        lines.append(
            f"  {part:<7}{len(sequences):>6,} episodes{sequences.num_rows:>10,} rows{len(windows):>8,} windows"
        )
    return "\n".join(lines)


def result(evaluation: Evaluation, *, windows: int, length: int) -> str:
    """The model's test errors beside the last value's, and what the ratio means."""
    rows = {"model": evaluation.scaled, "last value": evaluation.persistence_scaled}
    raw = {"model": evaluation.raw, "last value": evaluation.persistence_raw}
    lines = [
        f"test     one step ahead, {windows:,} windows of {length} steps, each from a state of zero",
        f"  {'':<12}{'MSE':>12}{'L1':>12}{'MSE, raw units':>18}{'L1, raw units':>16}",
    ]
    for name, errors in rows.items():
        lines.append(
            f"  {name:<12}{errors.mean_mse:>12.6f}{errors.mean_l1:>12.6f}"
            f"{raw[name].mean_mse:>18.6g}{raw[name].mean_l1:>16.6g}"
        )
    return "\n".join([*lines, f"  {verdict(evaluation.skill)}"])


def beside_baselines(assessment: EvaluationResult) -> str:
    """Errors with a warm state and in open loop beside every baseline's, and where the model loses, in words."""
    tables: dict[str, Mapping[str, EpisodeErrors]] = {}
    if assessment.warm is not None:
        tables["1, warm"] = assessment.warm.errors
    if (loop := assessment.open_loop) is not None:
        tables |= {
            str(h): {name: errors.at(h) for name, errors in loop.errors.items()} for h in loop.horizons
        }
    lines = [f"  {part} not evaluated: {reason}" for part, reason in assessment.missing.items()]
    if tables:
        names = list(next(iter(tables.values())))
        lines.append(f"  {'MSE, steps ahead':<18}" + "".join(f"{name:>13}" for name in names))
        for steps, errors in tables.items():
            lines.append(f"  {steps:>16}  " + "".join(f"{float(errors[n].mean_mse):>13.5g}" for n in names))
    losses = [f"  THE MODEL LOSES TO {name}: {places(where)}" for name, where in assessment.losses().items()]
    return "\n".join([*lines, *losses])


def verdict(skill: float) -> str:
    """The skill in words.

    >>> verdict(-0.2)
    'skill -0.200: WORSE than repeating the last value'
    """
    if skill <= 0:
        return f"skill {skill:.3f}: WORSE than repeating the last value"
    return f"skill {skill:.3f}: {skill:.0%} of the squared error of repeating the last value is gone"


def whereabouts(run_id: str, folder: Path, seconds: Mapping[str, float], *, address: str) -> str:
    """Times, and where the run and its figures are; on this machine, `mlflow ui` shows them."""
    spent = ", ".join(f"{what} {_duration(time)}" for what, time in seconds.items())
    start = "mlflow ui, then " if "//localhost" in address else ""
    return (
        f"time     {spent}\nrun      {run_id}\nreport   {folder / 'report.html'}\nlook     {start}{address}"
    )


def last_line(run_id: str, status: str, metrics: Mapping[str, float]) -> str:
    """The line that scripts read."""
    shown = " ".join(
        f"{name}={metrics.get(name, float('nan')):.6g}" for name in ("test/mse", "test/l1", "skill")
    )
    return f"run={run_id} status={status} {shown}"


def places(where: Sequence[str]) -> str:
    """Where a baseline is better, the steps of the open loop together."""
    places = [place for place in where if not place.startswith(OPEN_LOOP)]
    steps = [place.removeprefix(OPEN_LOOP).split()[0] for place in where if place.startswith(OPEN_LOOP)]
    return "; ".join(places + ([f"{OPEN_LOOP}{', '.join(steps)} steps"] if steps else []))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"
