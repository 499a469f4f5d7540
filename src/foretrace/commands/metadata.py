"""What a run is made of, for the record: everything that it takes to know it, and to get it again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import OmegaConf

from foretrace.commands.resume import StartPoint
from foretrace.config import TrainConfig
from foretrace.config.run_config import read_json
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.statistics import Statistics
from foretrace.errors import sanitize
from foretrace.model.next_step import count_parameters
from foretrace.reports import console
from foretrace.tracking import provenance
from foretrace.tracking.run import TrackedRun
from foretrace.training.module import Forecaster
from foretrace.workspace import Workspace

# A server's address may hold a password; the rest says how this process came to train, not what.
NOT_RECORDED: dict[str, Any] = {"tracking": {"uri"}, "resume": True, "rerun": True, "sweep": True}
CONFIG = "config.yaml"
CONTEXTS = {"train": "training", "valid": "validation", "test": "testing"}  # MLflow's words


def record(
    config: TrainConfig,
    data: WindowDataModule,
    forecaster: Forecaster,
    tracked: TrackedRun,
    *,
    device: torch.device,
    workspace: Workspace,
) -> None:
    """Records settings, code, libraries, machine, data and size of a run that is about to train."""
    tracked.log_params(_flat(config.model_dump(exclude=NOT_RECORDED)))
    environment, patch = provenance.collect(workspace.root, device=device)
    tracked.set_tags(provenance.tags(environment))
    tracked.log_text(provenance.ENVIRONMENT, json.dumps(environment, indent=1) + "\n")
    if patch:
        tracked.log_bytes(provenance.PATCH, patch)
    record_data(config.data.source, data, tracked)
    counts = count_parameters(forecaster.model)
    tracked.log_text("parameters.txt", console.parameters(counts) + "\n")
    trainable, frozen = (sum(column) for column in zip(*counts.values(), strict=True))
    tracked.log_metrics({"parameters/trainable": trainable, "parameters/frozen": frozen}, step=0)
    record_settings(config, tracked)  # the last: a run that holds it holds everything above


def record_settings(config: TrainConfig, tracked: TrackedRun) -> None:
    """Records all settings, from which the run can be started again."""
    settings = config.model_dump(exclude=NOT_RECORDED)
    tracked.log_text(CONFIG, OmegaConf.to_yaml(OmegaConf.create(settings)))


def record_start(
    start: StartPoint, overrides: Sequence[str], tracked: TrackedRun, *, workspace: Workspace
) -> None:
    """Adds a line about this start: a run that was cut has several. Settings that it changed become tags."""
    line = provenance.start(
        start.kind,
        command=provenance.command(overrides),
        code=provenance.code(workspace.root),
        changed=start.changes,
        step=start.step,
        of=start.repeated.id if start.repeated else None,
    )
    log = tracked.folder / provenance.STARTS
    tracked.log_text(provenance.STARTS, (log.read_text() if log.exists() else "") + line)
    if start.kind == "resume":
        changed = {f"changed.{key}": f"{then} → {now}" for key, (then, now) in start.changes.items()}
        before = tracked.logged_tags().get("resumed", "0")
        tracked.log_params({key: now for key, (_, now) in start.changes.items()})
        tracked.set_tags({"resumed": (int(before) if before.isdecimal() else 0) + 1, **changed})


def tell_differences(
    start: StartPoint,
    data: WindowDataModule,
    tracked: TrackedRun,
    *,
    device: torch.device,
    workspace: Workspace,
) -> None:
    """Says, and keeps, where a repetition's surroundings are not those of the run that it repeats."""
    if start.repeated is None:
        return
    lines = [f"setting {key}: {then} then, {now} now" for key, (then, now) in start.changes.items()]
    today, _ = provenance.collect(workspace.root, device=device)
    try:
        recorded = _environment(start.repeated)
        lines += provenance.differences(recorded, today)
        then, now = (
            {f"data {n}": d for n, d in one.logged_inputs().items()} for one in (start.repeated, tracked)
        )
        lines += provenance.changes(then, now)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever somebody wrote there
        lines.append(f"in what cannot be read of its record ({type(error).__name__}: {error})")
    lines = [sanitize(line, longest=1000) for line in lines]
    print(*(f"differs  {line}" for line in lines or ["in nothing that the run recorded"]), sep="\n")
    tracked.log_text("provenance/differences.txt", "".join(f"{line}\n" for line in lines))


def _environment(run: TrackedRun) -> dict[str, Any]:
    """Return what a run recorded of its environment; nothing where it has no such record."""
    found = provenance.ENVIRONMENT
    return read_json(run.download_artifact(found), key="rerun") if run.has_artifact(found) else {}


def record_data(name: str, data: WindowDataModule, tracked: TrackedRun) -> None:
    """Records origin, digest, names and per-feature statistics of each part."""
    for part, windows in data.windows.items():
        sequences = windows.sequences
        schema = {
            "features": sequences.feature_names,
            "units": sequences.units,
            "covariates": sequences.covariate_names,
        }
        profile = {"episodes": len(sequences), "rows": sequences.num_rows, "windows": len(windows)}
        notes = {f"{what} of all parts": number for what, number in sequences.notes.items()}
        windowed = (
            f"{sequences.digest} {windows.length} {windows.stride}"  # MLflow keeps the first of a digest
        )
        tracked.log_input(
            f"{name} {part}",
            digest=hashlib.sha256(windowed.encode()).hexdigest()[:36],  # MLflow's limit
            origin=json.dumps({"origin": sequences.origin, "sha256": sequences.digest}),
            schema=json.dumps(schema),
            profile=json.dumps(notes | profile | {"dt_s": sequences.dt_s}),
            context=CONTEXTS[part],
        )
    tracked.log_text("data_statistics.json", json.dumps(_statistics(data), indent=1))


def _statistics(data: WindowDataModule) -> dict[str, dict[str, list[float]]]:
    """Per part and feature, for whoever wonders whether the parts are alike."""
    parts = {part: Statistics.of(windows.sequences) for part, windows in data.windows.items()}
    return {
        part: {name: array.tolist() for name, array in vars(found).items()} for part, found in parts.items()
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
