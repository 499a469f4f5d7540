"""What the page about a run says, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foretrace.data.datamodule import WindowDataModule
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.evaluation.result import EvaluationResult, skill
from foretrace.reports import console
from foretrace.reports.html import Picture, Section, Table, render

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


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that the page is made of.

    Args:
        title: What run this is.
        data: The parts.
        parameters: Trainable and frozen ones per layer.
        result: None where there was no test part.
        images: PNG or GIF by name.
        inside: A line for each thing to know about gradients and gates.
        settings: What was asked for.
        provenance: What it ran on.
    """

    title: str
    data: WindowDataModule
    parameters: Mapping[str, tuple[int, int]]
    result: EvaluationResult | None
    images: Mapping[str, bytes]
    inside: Sequence[str]
    settings: Mapping[str, str]
    provenance: Mapping[str, str]

    def pictures(self, *names: str) -> tuple[Picture, ...]:
        """Return those of the pictures that were drawn."""
        return tuple(Picture(self.images[name], *CAPTIONS[name]) for name in names if name in self.images)


def compose(found: Findings) -> str:
    """Return the page about a run as HTML."""
    verdict, good = _verdict(found.result, found.data.test_missing)
    sections = [
        _data(found),
        Section("Training", pictures=found.pictures("error_by_epoch"), folded=_training(found)),
    ]
    if found.result is not None:
        sections += [_one_step(found, found.result), _open_loop(found, found.result)]
    sections.append(
        Section(
            "Inside the network",
            folded=(
                Section(
                    "Gradients, gates and weights",
                    text=tuple(found.inside),
                    pictures=found.pictures("gradients", "gates", "layer_norms"),
                ),
            ),
        )
    )
    record = [Section(what, tables=(_pairs(what, pairs),)) for what, pairs in
              (("Settings", found.settings), ("Provenance", found.provenance))]  # fmt: skip
    sections.append(Section("Record", folded=tuple(record)))
    return render(found.title, verdict=verdict, good=good, sections=sections)


def _verdict(result: EvaluationResult | None, missing: str) -> tuple[list[str], bool]:
    if result is None:
        return [f"Not tested: {missing}"], False
    lines = [f"One step ahead, from a state of zero: {console.verdict(result.skill)}."]
    worse = [line for line in _sentences(result) if line.startswith("Worse")]
    lines += [f"{result.coverage_sentence}."] if result.coverage_sentence else []
    lines += worse or ["Not worse than any baseline, one step ahead or at any reported horizon."]
    return lines, result.skill > 0 and not worse


def _sentences(result: EvaluationResult) -> tuple[str, ...]:
    return tuple(f"{line[0].upper()}{line[1:]}." for line in result.sentences)


def _data(found: Findings) -> Section:
    sequences = found.data.windows["train"].sequences
    text = [f"{console.describe_columns(found.data, longest=200)}; from {sequences.origin}."]
    if notes := console.describe_notes(sequences.notes):
        text.append(f"{notes}.")
    text += [f"Warning: {warning}." for warning in found.data.warnings]
    rows = [
        (part, f"{len(w.sequences):,}", f"{w.sequences.num_rows:,}", f"{len(w):,}", w.sequences.digest[:16])
        for part, w in found.data.windows.items()
    ]
    table = Table("The parts", ("part", "episodes", "rows", "windows", "SHA-256"), tuple(rows))
    spread = Section("Values of each feature in the parts", pictures=found.pictures("distributions"))
    every = Section(
        "All columns", (f"{console.describe_columns(found.data, most=MAX_LISTED, longest=200)}.",)
    )
    has_more = max(map(len, (sequences.feature_names, sequences.covariate_names))) > console.MOST_COLUMNS
    return Section("Data", tuple(text), (table,), folded=(*([every] if has_more else []), spread))


def _training(found: Findings) -> tuple[Section, ...]:
    rows = [
        (layer, f"{trainable:,}", f"{frozen:,}") for layer, (trainable, frozen) in found.parameters.items()
    ]
    total = ("total", *(f"{sum(column):,}" for column in zip(*found.parameters.values(), strict=True)))
    parameters = Table("Parameters", ("layer", "trainable", "frozen"), (*rows, total))
    batches = found.pictures("train_loss_by_batch")
    return (
        Section("Parameters of each layer", tables=(parameters,)),
        *([Section("Loss of every batch", pictures=batches)] if batches else []),
    )


def _one_step(found: Findings, result: EvaluationResult) -> Section:
    errors = list(result.zero_state.errors.items())
    rows = [(f"{name}, state of zero", float(e.mean_mse), float(e.mean_l1)) for name, e in errors]
    if result.carried_state is not None:
        carried = result.carried_state.errors.items()
        rows += [(f"{name}, state carried", float(e.mean_mse), float(e.mean_l1)) for name, e in carried]
    cells = tuple((name, f"{mse:.5g}", f"{l1:.5g}") for name, mse, l1 in rows)
    table = Table(
        "Test errors in units of each feature's training standard deviation", ("", "MSE", "L1"), cells
    )
    by_feature = _feature_table(result)
    few = len(by_feature.rows) <= MAX_ROWS
    more = [
        Section("Comparison with each baseline, in words", text=_sentences(result)),
        *([] if few else [Section("Errors of each feature", tables=(by_feature,))]),
        Section(
            "Residuals, and the cost of a state of zero",
            pictures=found.pictures("error_by_position", "residuals"),
        ),
    ]
    pictures = found.pictures("prediction_and_truth", "features")
    return Section("One step ahead", (), (table, by_feature) if few else (table,), pictures, tuple(more))


def _feature_table(result: EvaluationResult) -> Table:
    """Errors in each feature's own unit, from a state of zero."""
    errors = result.zero_state.errors
    ours, last = (errors[name].in_units(result.scale) for name in (MODEL, "persistence"))
    columns = zip(result.feature_names, result.units, ours.mse, ours.l1, last.mse, strict=True)
    rows = [
        (name, unit, f"{mse**0.5:.4g}", f"{l1:.4g}", f"{then**0.5:.4g}", f"{skill(mse, then):.3f}")
        for name, unit, mse, l1, then in columns
    ]
    heading = ("feature", "unit", "RMSE", "L1", "RMSE of the last value", "skill")
    return Table("Test errors in each feature's own unit, from a state of zero", heading, tuple(rows))


def _open_loop(found: Findings, result: EvaluationResult) -> Section:
    loop = result.open_loop
    if loop is None:
        return Section("Open loop", (f"Not evaluated: {result.unavailable['open_loop']}.",))
    valid, last = (float(result.valid_time(name).value) for name in (MODEL, "persistence"))
    text: tuple[str, ...] = (
        f"The model reads {loop.warmup} steps and then feeds on its own forecasts for {loop.horizon}, from "
        f"{loop.num_starts:,} starts in {result.num_episodes:,} test episode{'s' * (result.num_episodes != 1)}.",
        f"Half of its forecasts stay valid (root mean square error under {loop.threshold:g} training standard "
        f"deviations) for {valid:g} step{'s' * (valid != 1)} or more; those of repeating the last value for {last:g}.",
    )
    names = tuple(loop.errors)
    rows = tuple((f"{h:,}", *(f"{loop.errors[n].mean_mse[h - 1]:.5g}" for n in names)) for h in loop.horizons)
    tables = [Table("Mean squared error in training variances, by steps ahead", ("steps", *names), rows)]
    if loop.intervals:
        text += (f"{result.coverage_sentence}. They were fitted to {result.calibrated_on}.",)
        heading, cells = console.interval_table(loop)
        tables.append(
            Table("Intervals: coverage, width and score (CRPS), in standard deviations", heading, cells)
        )
    if reason := result.unavailable.get("intervals"):
        text += (f"Intervals that there are not: {reason}.",)
    by_feature = Section("Skill of each feature", pictures=found.pictures("skill_map"))
    pictures = found.pictures("error_by_horizon", "coverage", "fan_chart", "animation")
    return Section("Open loop", text, tuple(tables), pictures, (by_feature,))


def _pairs(caption: str, pairs: Mapping[str, str]) -> Table:
    return Table(caption, ("name", "value"), tuple((name, str(pairs[name])) for name in sorted(pairs)))
