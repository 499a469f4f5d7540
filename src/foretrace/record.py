"""What a run is made of, for the record: everything that it takes to know it, and to get it again."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import OmegaConf

from foretrace import summary
from foretrace.config import PROJECT_ROOT
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.statistics import Statistics
from foretrace.forecaster import Forecaster
from foretrace.model.next_step import count_parameters
from foretrace.settings import TrainConfig
from foretrace.tracking import provenance
from foretrace.tracking.run import TrackedRun

# A server's address may hold a password; the rest says how this process came to train, not what.
NOT_RECORDED: dict[str, Any] = {"tracking": {"uri"}, "resume": True, "rerun": True, "sweep": True}
CONTEXTS = {"train": "training", "valid": "validation", "test": "testing"}  # MLflow's words


def record(
    config: TrainConfig,
    data: WindowDataModule,
    forecaster: Forecaster,
    tracked: TrackedRun,
    *,
    device: torch.device,
) -> None:
    """Records settings, code, libraries, machine, data and size of a run that is about to train."""
    settings = config.model_dump(exclude=NOT_RECORDED)
    tracked.params(_flat(settings))
    tracked.text("config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    versions = {f"version.{name}": version for name, version in provenance.environment().items()}
    tracked.tags(versions | provenance.machine(device))
    tracked.text("provenance/installed.txt", provenance.installed())
    if patch := provenance.difference(PROJECT_ROOT):
        tracked.text("provenance/uncommitted.patch", patch)
    record_data(config.data.source, data, tracked)
    counts = count_parameters(forecaster.model)
    tracked.text("parameters.txt", summary.parameters(counts) + "\n")
    trainable, frozen = (sum(column) for column in zip(*counts.values(), strict=True))
    tracked.metrics({"parameters/trainable": trainable, "parameters/frozen": frozen}, step=0)


def record_data(name: str, data: WindowDataModule, tracked: TrackedRun) -> None:
    """Records origin, digest, names and per-feature statistics of each part."""
    for part, windows in data.windows.items():
        sequences = windows.sequences
        schema = {
            "features": sequences.feature_names,
            "units": sequences.units,
            "known": sequences.known_names,
        }
        profile = {"episodes": len(sequences), "rows": sequences.num_rows, "windows": len(windows)}
        tracked.dataset(
            f"{name} {part}",
            digest=sequences.digest[:36],  # MLflow's limit
            origin=json.dumps({"origin": sequences.origin, "sha256": sequences.digest}),
            schema=json.dumps(schema),
            profile=json.dumps(profile | sequences.notes | {"dt_s": sequences.dt_s}),
            context=CONTEXTS[part],
        )
    tracked.text("data_statistics.json", json.dumps(_statistics(data), indent=1))


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
