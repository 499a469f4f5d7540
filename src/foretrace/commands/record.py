"""What a run leaves: all that it takes to know it and to get it again, and how good its model is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from foretrace.commands.resume import StartPoint
from foretrace.config import Evaluation, Tracking
from foretrace.config.run_config import ABSENT, NOT_RECORDED, changes, read_json
from foretrace.data.sources import WindowDataModule
from foretrace.errors import sanitize
from foretrace.evaluation.calibration import Calibration
from foretrace.evaluation.inside import look_inside
from foretrace.evaluation.references import fit_references
from foretrace.evaluation.result import EvaluationResult, evaluate
from foretrace.evaluation.storage import EVALUATION, evaluation_metrics, save_evaluation
from foretrace.model.next_step import NextStepModel, count_parameters
from foretrace.reports import console
from foretrace.reports.page import Findings
from foretrace.reports.report import shown_part, write_report
from foretrace.tracking import provenance, store
from foretrace.tracking.run import TrackedRun
from foretrace.training.module import VALID_MSE, Forecaster
from foretrace.workspace import Workspace

CONFIG = "config.yaml"
# The parts of a record that are compared, what matters most first.
COMPARED = (
    *("code.commit", "code.dirty", "code.patch", "code.sources", "python."),
    *(f"libraries.installed.{name}" for name in provenance.LIBRARIES),
    *("accelerator.name", "accelerator.memory", "accelerator.driver", "torch."),
    *("computer.processor", "computer.cores", "computer.platform", "variables."),
)
CONTEXTS = {"train": "training", "valid": "validation", "test": "testing"}  # MLflow's words


def create_run(
    tracking: Tracking, overrides: Sequence[str], workspace: Workspace, *, name: str, tags: Mapping[str, str]
) -> TrackedRun:
    """Return a new run, labeled with the code and the command that made it; the name is what it has by default."""
    labels = (tracking.tags or {}) | provenance.code(workspace.root) | {**tags}
    labels["command"] = provenance.command(overrides)
    name = tracking.run_name or name
    return store.create_run(workspace, experiment=tracking.experiment, name=name, tags=labels)


def record(
    start: StartPoint, data: WindowDataModule, module: Forecaster, trainer: Trainer, tracked: TrackedRun
) -> None:
    """Record this start of a run; of one that is not resumed also its code, libraries, machine, data and size.

    Where it repeats a run, what differs from that is printed and recorded.
    """
    _record_start(start, tracked)
    processes = {"processes": trainer.world_size} if trainer.world_size > 1 else {}
    tracked.set_tags({"precision": trainer.precision, **processes})
    config = start.config.model_dump(exclude=NOT_RECORDED)
    if start.kind != "resume":
        tracked.log_params(pd.json_normalize(config).to_dict("records")[0])
        environment, patch = provenance.collect(start.workspace.root, device=trainer.strategy.root_device)
        tracked.set_tags(provenance.tags(environment))
        tracked.log_text(provenance.ENVIRONMENT, json.dumps(environment, indent=1) + "\n")
        if patch:
            tracked.log_text(provenance.PATCH, patch)
        record_data(start.config.data.source, data, tracked)
        counts = count_parameters(module.model)
        tracked.log_text("parameters.txt", console.parameters(counts).text() + "\n")
        trainable, frozen = (sum(column) for column in zip(*counts.values(), strict=True))
        tracked.log_metrics({"parameters/trainable": trainable, "parameters/frozen": frozen}, step=0)
        if start.repeated:
            _record_differences(start, start.repeated, environment, tracked)
    tracked.flush()
    # The last: a run that holds it holds everything above.
    tracked.log_text(CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))


def _record_start(start: StartPoint, tracked: TrackedRun) -> None:
    """Add a line about this start: a run that was cut has several. Settings that it changed become tags."""
    of = start.repeated.id if start.repeated else None
    what = {"kind": start.kind, "changed": start.changes, "step": start.step, "of": of}
    line = provenance.start(start.workspace.root, start.overrides, **what)
    log = tracked.folder / provenance.STARTS
    tracked.log_text(provenance.STARTS, (log.read_text() if log.exists() else "") + line)
    if start.kind == "resume":
        changed = {f"changed.{key}": f"{then} → {now}" for key, (then, now) in start.changes.items()}
        before = tracked.tags.get("resumed", "0")
        tracked.log_params({key: now for key, (_, now) in start.changes.items()})
        tracked.set_tags({"resumed": (int(before) if before.isdecimal() else 0) + 1, **changed})


def _record_differences(
    start: StartPoint, repeated: TrackedRun, environment: Mapping[str, Any], tracked: TrackedRun
) -> None:
    """Say, and keep, where a repetition's surroundings are not those of the run that it repeats."""
    lines = [f"setting {key}: {then} then, {now} now" for key, (then, now) in start.changes.items()]
    try:
        found = provenance.ENVIRONMENT
        if repeated.has_artifact(found):
            recorded = read_json(repeated.download_artifact(found), key="rerun")
            lines += differences(recorded, environment)
        data = changes(repeated.inputs, tracked.inputs, "data ")
        lines += [f"{name}: {then} then, {now} now" for name, (then, now) in data.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever somebody wrote there
        lines.append(f"in what cannot be read of its record ({type(error).__name__}: {error})")
    lines = [sanitize(line, longest=1000) for line in lines]
    print(*(f"differs  {line}" for line in lines or ["in nothing that the run recorded"]), sep="\n")
    tracked.log_text("provenance/differences.txt", "".join(f"{line}\n" for line in lines))


def differences(recorded: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was when a run was recorded (`provenance.collect`), what matters most first.

    >>> differences({"torch": {"threads": 4}}, {"torch": {"threads": 2}})
    ['torch.threads: 4 then, 2 now']
    """
    found = changes(dict(recorded), {name: group for name, group in today.items() if name in recorded})
    ranked = [name for group in COMPARED for name in sorted(found) if name.startswith(group)]
    return [
        f"{name.removeprefix('libraries.installed.')}: {found[name][0]} then, {found[name][1]} now"
        for name in dict.fromkeys(ranked)
        # Not what one of the two versions does not record; but a library or a variable that came or went.
        if ABSENT not in found[name] or name.startswith(("libraries.", "variables."))
    ]


def record_data(name: str, data: WindowDataModule, tracked: TrackedRun) -> None:
    """Record origin, digest, names and per-feature statistics of each part."""
    for part, windows in data.windows.items():
        sequences = windows.sequences
        schema = {"features": sequences.feature_names, "units": sequences.units}
        schema["covariates"] = sequences.covariate_names
        profile = {"episodes": len(sequences), "rows": sequences.num_rows, "windows": len(windows)}
        notes = {f"{what} of all parts": number for what, number in sequences.notes.items()}
        # MLflow keeps the first record of a digest.
        windowed = f"{sequences.digest} {windows.length} {windows.stride}"
        tracked.log_input(
            f"{name} {part}",
            digest=hashlib.sha256(windowed.encode()).hexdigest()[:36],  # MLflow's limit
            origin=json.dumps({"origin": sequences.origin, "sha256": sequences.digest}),
            schema=json.dumps(schema),
            profile=json.dumps(notes | profile | {"dt_s": sequences.dt_s}),
            context=CONTEXTS[part],
        )
    parts = {part: vars(windows.sequences.statistics) for part, windows in data.windows.items()}
    statistics = {part: {name: a.tolist() for name, a in found.items()} for part, found in parts.items()}
    tracked.log_text("data_statistics.json", json.dumps(statistics, indent=1))


def evaluate_and_report(
    model: NextStepModel,
    data: WindowDataModule,
    tracked: TrackedRun,
    settings: Evaluation,
    *,
    title: str,
    prefix: str = "",
) -> tuple[dict[str, float], Calibration | None]:
    """Evaluate a model on the test part, tell the user, and record metrics, pictures and the page.

    Names in the record begin with the prefix.

    Returns:
        The test metrics by the names under which they are tracked, none where there is no test part; and how far
        forecasts are off on the validation part.
    """
    train, valid = (data.windows[part].sequences for part in ("train", "valid"))
    references = fit_references(model, train=train, valid=valid, settings=settings)
    epoch, metrics = len(tracked.history(VALID_MSE)[0]), dict[str, float]()
    result: EvaluationResult | None = None

    def log(values: Mapping[str, float], step: int) -> None:
        named = {prefix + name: value for name, value in values.items()}
        tracked.log_metrics(named, step=step, replace=True)

    if (windows := data.windows.get("test")) is None:
        print(f"test     not done: {data.test_missing}")
        tracked.set_tags({f"{prefix}test": f"not done: {data.test_missing}"})
    else:
        result = evaluate(model, windows, references, settings=settings)
        print(console.evaluation(result, windows=len(windows), length=windows.length), flush=True)
        metrics, curves = evaluation_metrics(result)
        log(metrics, epoch)
        for name, curve in curves.items():
            for ahead, value in curve.items():
                log({name: value}, ahead)
        tracked.set_tags({f"{prefix}worse_than": ", ".join(result.worse_than) or "none"})
        save_evaluation(result, tracked.folder / EVALUATION)
    inside = look_inside(model, data.windows["valid"], shown_part(data))
    log(inside.metrics, epoch)
    tracked.flush()
    found = Findings(
        title=title, run=tracked, model=model, data=data, references=references, result=result, inside=inside
    )
    write_report(found)
    return metrics, references.calibration


def log_curves(tracked: TrackedRun) -> None:
    """Keep all metrics as one tidy table, ``curves.csv``: a row for each value, with its metric and step."""
    curves = {name: tracked.history(name) for name in sorted(tracked.names(""))}
    rows = [(name, *point) for name, points in curves.items() for point in zip(*points, strict=True)]
    table = pd.DataFrame(rows, columns=["metric", "step", "value"])
    tracked.log_text("curves.csv", table.to_csv(index=False))
