"""The page about a run, self-contained: no scripts, nothing from the network; it prints, and fits a phone."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from foretrace.data.datamodule import WindowDataModule
from foretrace.evaluation.baselines import PERSISTENCE
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.evaluation.inside import Inside
from foretrace.evaluation.references import References
from foretrace.evaluation.result import EvaluationResult, skill
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.reports import console
from foretrace.reports.console import Table
from foretrace.tracking.run import TrackedRun

# Caption and alternative text of each picture. Whatever depends on what is drawn is said in the picture itself.
CAPTIONS = {
    "distributions": ("Where each feature's values lie in the three parts: dot, median; bar, middle half; line, 1st to "
        "99th percentile. Parts that differ make a harder, or another, test.", "Quantiles by feature"),
    "layer_norms": ("Norm of each layer's weights, and of their change per epoch relative to it. A layer that never "
        "moves is not training.", "Weight norms by epoch"),
    "train_loss_by_batch": ("Loss of every batch.", "Training loss by batch"),
    "error_by_epoch": ("Training and validation error; the weights of the marked epoch are evaluated.",
        "Error by epoch"),
    "error_by_position": ("What the first steps of a window cost: the state is zero at its start.",
        "Error by position"),
    "prediction_and_truth": ("Forecast, what came, and the difference, on one scale.",
        "Prediction, ground truth and error as images"),
    "features": ("The same, feature by feature, in each feature's own unit.", "Forecast over truth for each feature"),
    "residuals": ("Errors with the state carried. Errors that tell of the next ones (autocorrelation) are structure "
        "that the model has not learned.", "Histogram and autocorrelation"),
    "error_by_horizon": ("Error of forecasts that feed on themselves.", "Error by horizon"),
    "coverage": ("How often what came lay within the intervals.", "Coverage against nominal coverage"),
    "fan_chart": ("A forecast with its intervals, and what came.", "Forecast with intervals"),
    "skill_map": ("Where the model is better (blue) and worse (red) than repeating the last value.",
        "Skill by feature and horizon"),
    "animation": ("The recorded motion, and the forecast that sees nothing of it.", "Animated skeleton"),
    "gradients": ("Size of the gradient of the last forecast's error, step by step back.",
        "Gradient norm against steps back"),
    "gates": ("Gates of each layer over a test episode.", "Gates over time"),
}  # fmt: skip
MAX_LISTED, MAX_ROWS = 60, 12


@dataclass(frozen=True)
class Picture:
    """An image, as an address that holds it, with words for who sees it and for who does not."""

    source: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it; ``folded`` sections are shown on a click."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: Sequence["Section"] = ()


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

    def pictures(self, *names: str) -> list[Picture]:
        """Return those of the pictures that were drawn."""
        drawn, found = {path.stem: path for path in (self.run.folder / "figures").iterdir()}, []
        for name in names:
            if name in drawn:
                data = base64.b64encode(drawn[name].read_bytes()).decode()
                found.append(Picture(f"data:image/{drawn[name].suffix[1:]};base64,{data}", *CAPTIONS[name]))
        return found


def compose(found: Findings) -> str:
    """Return the page about a run as HTML."""
    verdict, good = _verdict(found.result, found.data.test_missing)
    sections = [_data(found), _training(found)]
    if found.result is not None:
        sections += [_one_step(found, found.result), _open_loop(found, found.result)]
    pictures = found.pictures("gradients", "gates", "layer_norms")
    inside = Section("Gradients, gates and weights", text=found.inside.lines, pictures=pictures)
    record = [
        Section(what, tables=[Table(what, ("name", "value"), sorted(pairs.items()))])
        for what, pairs in (("Settings", found.run.params), ("Provenance", found.run.tags))
    ]
    sections += [Section("Inside the network", folded=[inside]), Section("Record", folded=record)]
    return render(found.title, verdict=verdict, good=good, sections=sections)


def render(title: str, *, verdict: Sequence[str], good: bool, sections: Sequence[Section]) -> str:
    """Return a page as HTML; names in the data cannot put anything but text into it.

    The verdict is what a hurried reader has to know, a paragraph each, and ``good`` whether that is good news.
    """
    loader = PackageLoader("foretrace.reports", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html.jinja")
    return page.render(title=title, verdict=verdict, good=good, sections=sections) + "\n"


def _verdict(result: EvaluationResult | None, missing: str) -> tuple[list[str], bool]:
    """Return what a hurried reader has to know, and whether it is good news."""
    if result is None:
        return [f"Not tested: {missing}"], False
    lines = [f"One step ahead, from a state of zero: {console.verdict(result.skill)}."]
    worse = [line for line in _sentences(result) if line.startswith("Worse")]
    lines += [f"{result.coverage_sentence}."] if result.coverage_sentence else []
    lines += worse or ["Not worse than any baseline, one step ahead or at any reported horizon."]
    return lines, result.skill > 0 and not worse


def _sentences(result: EvaluationResult) -> list[str]:
    return [f"{line[0].upper()}{line[1:]}." for line in result.sentences]


def _data(found: Findings) -> Section:
    sequences = found.data.windows["train"].sequences
    text = [f"{console.describe_columns(found.data, longest=200)}; from {sequences.origin}."]
    if notes := console.describe_notes(sequences.notes):
        text.append(f"{notes}.")
    text += [f"Warning: {warning}." for warning in found.data.warnings]
    parts, digests = console.parts(found.data), [w.sequences.digest[:16] for w in found.data.windows.values()]
    rows = [(*row, digest) for row, digest in zip(parts.rows, digests, strict=True)]
    parts = Table(parts.caption, (*parts.heading, "SHA-256"), rows)
    folded = [Section("Values of each feature in the parts", pictures=found.pictures("distributions"))]
    if max(map(len, (sequences.feature_names, sequences.covariate_names))) > console.MOST_COLUMNS:
        every = f"{console.describe_columns(found.data, most=MAX_LISTED, longest=200)}."
        folded.insert(0, Section("All columns", [every]))
    return Section("Data", text, [parts], folded=folded)


def _training(found: Findings) -> Section:
    parameters = console.parameters(count_parameters(found.model))
    folded = [Section("Parameters of each layer", tables=[parameters])]
    if batches := found.pictures("train_loss_by_batch"):
        folded.append(Section("Loss of every batch", pictures=batches))
    return Section("Training", pictures=found.pictures("error_by_epoch"), folded=folded)


def _one_step(found: Findings, result: EvaluationResult) -> Section:
    errors = {f"{name}, state of zero": e for name, e in result.zero_state.errors.items()}
    if result.carried_state is not None:
        errors |= {f"{name}, state carried": e for name, e in result.carried_state.errors.items()}
    rows = [(name, f"{e.mean_mse:.5g}", f"{e.mean_l1:.5g}") for name, e in errors.items()]
    caption = "Test errors in units of each feature's training standard deviation"
    tables, by_feature = [Table(caption, ("", "MSE", "L1"), rows)], _feature_table(result)
    folded = [Section("Comparison with each baseline, in words", _sentences(result))]
    if len(by_feature.rows) <= MAX_ROWS:
        tables.append(by_feature)
    else:
        folded.append(Section("Errors of each feature", tables=[by_feature]))
    pictures = found.pictures("error_by_position", "residuals")
    folded.append(Section("Residuals, and the cost of a state of zero", pictures=pictures))
    shown = found.pictures("prediction_and_truth", "features")
    return Section("One step ahead", tables=tables, pictures=shown, folded=folded)


def _feature_table(result: EvaluationResult) -> Table:
    """Errors in each feature's own unit, from a state of zero."""
    errors = result.zero_state.errors
    ours, last = (errors[name].in_units(result.scale) for name in (MODEL, PERSISTENCE))
    columns = zip(result.feature_names, result.units, ours.mse, ours.l1, last.mse, strict=True)
    rows = [
        (name, unit, f"{mse**0.5:.4g}", f"{l1:.4g}", f"{then**0.5:.4g}", f"{skill(mse, then):.3f}")
        for name, unit, mse, l1, then in columns
    ]
    heading = ("feature", "unit", "RMSE", "L1", "RMSE of the last value", "skill")
    return Table("Test errors in each feature's own unit, from a state of zero", heading, rows)


def _open_loop(found: Findings, result: EvaluationResult) -> Section:
    loop = result.open_loop
    if loop is None:
        return Section("Open loop", [f"Not evaluated: {result.unavailable['open_loop']}."])
    valid, last = (loop.valid_time(name) for name in (MODEL, PERSISTENCE))
    text = [
        f"The model reads {loop.warmup} steps and then feeds on its own forecasts for {loop.horizon}, from "
        f"{loop.num_starts:,} starts in {result.num_episodes:,} test episode{'s' * (result.num_episodes != 1)}.",
        f"Half of its forecasts stay valid (root mean square error under {loop.threshold:g} training standard "
        f"deviations) for {valid} step{'s' * (valid != 1)} or more; those of repeating the last value for {last}.",
    ]
    tables = [console.by_steps_ahead(result)]
    if loop.intervals:
        text.append(f"{result.coverage_sentence}. They were fitted to {result.calibrated_on}.")
        tables.append(console.intervals(loop))
    if reason := result.unavailable.get("intervals"):
        text.append(f"Intervals that there are not: {reason}.")
    by_feature = Section("Skill of each feature", pictures=found.pictures("skill_map"))
    pictures = found.pictures("error_by_horizon", "coverage", "fan_chart", "animation")
    return Section("Open loop", text, tables, pictures, [by_feature])
