"""What the page about a run says, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foretrace.data.datamodule import WindowDataModule
from foretrace.evaluation.evaluate import EvaluationResult
from foretrace.evaluation.one_step import skill
from foretrace.reports import console
from foretrace.reports.render import Picture, Section, Table, render

# Section, caption and alternative text of each picture, in the order in which they are read.
PICTURES = {
    "distributions": ("Data", "Where each feature's values lie in the three parts: dot, median; bar, middle half; "
        "line, 1st to 99th percentile. Parts that differ make a harder, or another, test.", "Quantiles by feature"),
    "layer_norms": ("Model", "Norm of each layer's weights, and of their change per epoch relative to it. "
        "A layer that never moves is not training.", "Weight norms by epoch"),
    "train_loss_by_batch": ("Training", "Loss of every batch.", "Training loss by batch"),
    "error_by_epoch": ("Training", "Training and validation error; the weights of the marked epoch are judged.",
        "Error by epoch"),
    "error_by_position": ("One step ahead", "What the first steps of a window cost: the state is zero at its "
        "start. With the state carried, the error is that of the dotted line.", "Error by position"),
    "prediction_and_truth": ("One step ahead", "Forecast, what came, and the difference, on one scale.",
        "Prediction, ground truth and error as images"),
    "features": ("One step ahead", "The same, feature by feature, in each feature's own unit.",
        "Forecast over truth for each feature"),
    "residuals": ("One step ahead", "Errors with the state carried. Errors that tell of the next ones "
        "(autocorrelation) are structure that the model has not learned.", "Histogram and autocorrelation"),
    "error_by_horizon": ("Open loop", "Error of forecasts that feed on themselves; the band is a 95 % interval over "
        "episodes. At 1, the forecast is no better than the training mean.", "Error by horizon"),
    "skill_map": ("Open loop", "Where the model is better (blue) and worse (red) than repeating the last value.",
        "Skill by feature and horizon"),
    "animation": ("Open loop", "The recorded motion, and the forecast that sees nothing of it.", "Animated skeleton"),
    "filmstrip": ("Open loop", "Moments of the same.", "Skeleton at several moments"),
    "gradients": ("Inside", "Size of the gradient of the last forecast's error, step by step back.",
        "Gradient norm against steps back"),
    "gates": ("Inside", "Gates of each layer over a test episode; units are sorted by their forget gate.",
        "Gates over time"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that the page is made of.

    Args:
        title: What run this is.
        data: The parts.
        parameters: Trainable and frozen ones per layer.
        assessment: None where there was no test part; ``missing`` says why.
        images: PNG or GIF by name.
        inside: A line for each thing to know about gradients and gates.
        settings: What was asked for.
        provenance: What it ran on.
        missing: Why there is no assessment.

    >>> "animation" in PICTURES
    True
    """

    title: str
    data: WindowDataModule
    parameters: Mapping[str, tuple[int, int]]
    assessment: EvaluationResult | None
    images: Mapping[str, bytes]
    inside: Sequence[str]
    settings: Mapping[str, str]
    provenance: Mapping[str, str]
    missing: str = ""


def compose(findings: Findings) -> str:
    """Writes the page about a run."""
    assessment = findings.assessment
    verdict, good = _verdict(assessment, findings.missing)
    said: dict[str, tuple[tuple[str, ...], tuple[Table, ...]]] = {
        "Data": _data(findings.data),
        "Model": ((), (_parameter_table(findings.parameters),)),
        "Training": ((), ()),
        "One step ahead": (
            (),
            (_one_step_table(assessment), _feature_table(assessment)) if assessment else (),
        ),
        "Open loop": _open_loop(assessment),
        "Inside": (tuple(findings.inside), ()),
        "Record": ((), (_pairs("Settings", findings.settings), _pairs("Provenance", findings.provenance))),
    }
    sections = [
        Section(title, text, tables, _pictures(title, findings.images))
        for title, (text, tables) in said.items()
    ]
    shown = [section for section in sections if section.text or section.tables or section.pictures]
    return render(findings.title, verdict=verdict, good=good, sections=shown)


def _pictures(section: str, images: Mapping[str, bytes]) -> tuple[Picture, ...]:
    return tuple(
        Picture(images[name], caption, alt)
        for name, (where, caption, alt) in PICTURES.items()
        if where == section and name in images
    )


def _verdict(assessment: EvaluationResult | None, missing: str) -> tuple[list[str], bool]:
    if assessment is None:
        return [f"Not tested: {missing}"], False
    saved = assessment.cold.skill
    lines = [f"One step ahead, from a state of zero: {console.verdict(saved)}."]
    if assessment.warm is not None:
        ours, ridge = (float(assessment.warm.errors[name].mean_mse) for name in ("model", "ridge"))
        than = f"{ours:.2g}, where ridge regression's is 0,"
        if ridge:
            than = (
                f"{abs(1 - ours / ridge):.0%} {'lower' if ours < ridge else 'HIGHER'} than ridge regression's"
            )
        lines.append(f"With the state carried, its squared error is {than} on the same steps.")
    losses = assessment.losses()
    lines += [f"It loses to {name}: {console.places(where)}." for name, where in losses.items()]
    return lines + ([] if losses else ["It loses to no baseline at any horizon."]), saved > 0 and not losses


def _open_loop(assessment: EvaluationResult | None) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    if assessment is None:
        return (), ()
    loop = assessment.open_loop
    if loop is None:
        return (f"Not evaluated: {assessment.missing['open_loop']}",), ()
    generator = np.random.default_rng(0)
    valid, last = (
        float(assessment.valid_time(n, generator=generator).value) for n in ("model", "persistence")
    )
    text = (
        f"The model reads {loop.warmup} steps and then feeds on its own forecasts for {loop.horizon}, from "
        f"{loop.num_starts} starts in {len(assessment.episode_names)} test episodes.",
        f"Half of its forecasts stay valid (root mean square error under {loop.threshold:g} training standard "
        f"deviations) for {valid:g} steps or more; those of repeating the last value for {last:g}.",
    )
    names = tuple(loop.errors)
    rows = [(str(h), *(f"{loop.errors[n].mean_mse[h - 1]:.5g}" for n in names)) for h in loop.horizons]
    caption = "Mean squared error in training variances, by steps ahead"
    return text, (Table(caption, ("steps", *names), tuple(rows)),)


def _one_step_table(assessment: EvaluationResult) -> Table:
    cold = assessment.cold
    rows = [
        ("model, state of zero", cold.scaled.mean_mse, cold.scaled.mean_l1),
        ("persistence, same windows", cold.persistence_scaled.mean_mse, cold.persistence_scaled.mean_l1),
    ]
    if assessment.warm is not None:
        tables = assessment.warm.errors.items()
        rows += [(f"{name}, state carried", float(e.mean_mse), float(e.mean_l1)) for name, e in tables]
    text = tuple((name, f"{mse:.5g}", f"{l1:.5g}") for name, mse, l1 in rows)
    return Table(
        "Test errors in units of each feature's training standard deviation", ("", "MSE", "L1"), text
    )


def _feature_table(assessment: EvaluationResult) -> Table:
    """Errors in each feature's own unit, from a state of zero."""
    ours, last = assessment.cold.raw, assessment.cold.persistence_raw
    rows = [
        (name, unit, f"{mse**0.5:.4g}", f"{l1:.4g}", f"{then**0.5:.4g}", f"{skill(mse, then):.3f}")
        for name, unit, mse, l1, then in zip(
            assessment.feature_names, assessment.units, ours.mse, ours.l1, last.mse, strict=True
        )
    ]
    heading = ("feature", "unit", "RMSE", "L1", "RMSE of the last value", "skill")
    return Table("Test errors in each feature's own unit, from a state of zero", heading, tuple(rows))


def _data(data: WindowDataModule) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    rows = [
        (part, f"{len(w.sequences):,}", f"{w.sequences.num_rows:,}", f"{len(w):,}", w.sequences.digest[:16])
        for part, w in data.windows.items()
    ]
    sequences = data.windows["train"].sequences
    step = "unknown" if sequences.dt_s is None else f"{sequences.dt_s:g} s"
    text = [f"{len(sequences.feature_names)} features, time step {step}, from {sequences.origin}."]
    if sequences.notes:
        text.append("; ".join(f"{what}: {count:,}" for what, count in sequences.notes.items()))
    heading = ("part", "episodes", "rows", "windows", "SHA-256")
    return tuple(text), (Table("The three parts", heading, tuple(rows)),)


def _parameter_table(parameters: Mapping[str, tuple[int, int]]) -> Table:
    rows = [(layer, f"{trainable:,}", f"{frozen:,}") for layer, (trainable, frozen) in parameters.items()]
    total = ("total", *(f"{sum(column):,}" for column in zip(*parameters.values(), strict=True)))
    return Table("Parameters", ("layer", "trainable", "frozen"), (*rows, total))


def _pairs(caption: str, pairs: Mapping[str, str]) -> Table:
    return Table(caption, ("name", "value"), tuple((name, str(pairs[name])) for name in sorted(pairs)))
