"""The page about a run, self-contained: no scripts, nothing from the network; it prints, and fits a phone.

What it says, and in which order, is in ``page.html.jinja`` beside this module.
"""

import base64
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from foretrace.data.sources import WindowDataModule
from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.evaluation.inside import Inside
from foretrace.evaluation.references import References
from foretrace.evaluation.result import EvaluationResult, skill
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.reports import console
from foretrace.reports.console import Table
from foretrace.tracking.run import TrackedRun

MAX_LISTED = 60  # columns


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that pictures and the page are made of."""

    title: str
    run: TrackedRun
    model: NextStepModel
    data: WindowDataModule
    references: References
    result: EvaluationResult | None  # None where there is no test part
    inside: Inside


def compose(found: Findings) -> str:
    """Return the page about a run as HTML; names in the data cannot put anything but text into it."""
    figures = sorted((found.run.folder / "figures").iterdir())
    encoded = {path: base64.b64encode(path.read_bytes()).decode() for path in figures}
    verdict, good = _verdict(found.result, found.data.test_missing)
    records = {"Settings": found.run.params, "Provenance": found.run.tags}
    loader = PackageLoader("foretrace.reports", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["counted"] = console.counted
    page = environment.get_template("page.html.jinja").render(
        title=found.title,
        verdict=verdict,
        good=good,
        pictures={path.stem: f"data:image/{path.suffix[1:]};base64,{data}" for path, data in encoded.items()},
        parameters=console.parameters(count_parameters(found.model)),
        inside=found.inside,
        record=[Table(what, ("name", "value"), sorted(pairs.items())) for what, pairs in records.items()],
        result=found.result,
        console=console,
        **_data(found.data),
        **(_errors(found.result) if found.result is not None else {}),
    )
    return page + "\n"


def _verdict(result: EvaluationResult | None, missing: str) -> tuple[list[str], bool]:
    """Return what a hurried reader has to know, a paragraph each, and whether it is good news."""
    if result is None:
        return [f"Not tested: {missing}"], False
    lines = [f"One step ahead, from a state of zero: {console.verdict(result.skill)}."]
    worse = [line for line in _sentences(result) if line.startswith("Worse")]
    lines += [f"{result.coverage_sentence}."] if result.coverage_sentence else []
    lines += worse or ["Not worse than any baseline, one step ahead or at any reported horizon."]
    return lines, result.skill > 0 and not worse


def _sentences(result: EvaluationResult) -> list[str]:
    return [f"{line[0].upper()}{line[1:]}." for line in result.sentences]


def _data(data: WindowDataModule) -> dict[str, Any]:
    """Return what the page says about the data."""
    sequences, columns = data.windows["train"].sequences, console.describe_columns(data, longest=200)
    lines = [f"{columns}; from {sequences.origin}."]
    if notes := console.describe_notes(sequences.notes):
        lines.append(f"{notes}.")
    every = console.describe_columns(data, most=MAX_LISTED, longest=200)
    parts, digests = console.parts(data), [windows.sequences.digest[:16] for windows in data.windows.values()]
    rows = [(*row, digest) for row, digest in zip(parts.rows, digests, strict=True)]
    return {
        "data_lines": [*lines, *(f"Warning: {warning}." for warning in data.warnings)],
        "parts": Table(parts.caption, (*parts.heading, "SHA-256"), rows),
        "every_column": every if every != columns else "",
    }


def _errors(result: EvaluationResult) -> dict[str, Any]:
    """Return what the page says about errors: of all forecasts one step ahead, and of each feature in its own unit."""
    forecasts = {f"{name}, state of zero": e for name, e in result.zero_state.errors.items()}
    if result.carried_state is not None:
        forecasts |= {f"{name}, state carried": e for name, e in result.carried_state.errors.items()}
    rows = [(name, f"{e.mean_mse:.5g}", f"{e.mean_l1:.5g}") for name, e in forecasts.items()]
    caption = "Test errors in units of each feature's training standard deviation"
    ours, last = (result.zero_state.errors[name].in_units(result.scale) for name in (MODEL, PERSISTENCE))
    columns = ours.mse**0.5, ours.l1, last.mse**0.5, skill(ours.mse, last.mse)
    by_feature = [
        (name, unit, f"{rmse:.4g}", f"{l1:.4g}", f"{then:.4g}", f"{saved:.3f}")
        for name, unit, rmse, l1, then, saved in zip(
            result.feature_names, result.units, *columns, strict=True
        )
    ]
    heading = ("feature", "unit", "RMSE", "L1", "RMSE of the last value", "skill")
    return {
        "open_loop": result.open_loop,
        "sentences": _sentences(result),
        "one_step": Table(caption, ("", "MSE", "L1"), rows),
        "by_feature": Table(
            "Test errors in each feature's own unit, from a state of zero", heading, by_feature
        ),
    }
