"""Judging what was trained before: a run, a checkpoint, or one run against another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from pydantic import TypeAdapter, ValidationError

from foretrace import summary
from foretrace.config import PROJECT_ROOT, parse
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import InputError
from foretrace.evaluation.archive import load_assessment
from foretrace.evaluation.comparison import compare
from foretrace.forecaster import Forecaster
from foretrace.inference.loading import trained_model
from foretrace.quiet import quiet_libraries
from foretrace.record import record_data
from foretrace.recorded import read_settings
from foretrace.review import ASSESSMENT, review
from foretrace.saved import A_CHECKPOINT, read_checkpoint
from foretrace.settings import DataConfig, EvaluateConfig
from foretrace.tracking import provenance, store
from foretrace.tracking.run import TrackedRun

BEST = "checkpoints/best.ckpt"
STAGING = PROJECT_ROOT / "mlruns" / "staging"


def run(
    cfg: EvaluateConfig | DictConfig | Mapping[str, Any], *, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """Judges one model on a test part, or says whether one of two is better.

    Returns:
        The test metrics by the names under which they are tracked; of two runs, the ratio of their errors.

    Raises:
        InputError: If something that the user gave cannot be used; then nothing is recorded.
    """
    config = cfg if isinstance(cfg, EvaluateConfig) else parse(cfg, EvaluateConfig)
    quiet_libraries()
    if config.runs is not None:
        return _compare(config.runs[0], config.runs[1], config)
    trained = _find(config.run, config) if config.run is not None else None
    checkpoint = trained.fetch(BEST) if trained else Path(str(config.checkpoint))
    forecaster = _load_forecaster(checkpoint)
    settings = config.data or recorded_data(trained)
    sources.check(settings)
    data = sources.load(settings, cache=PROJECT_ROOT / ".cache")
    _check_features(forecaster, data)
    same_data = forecaster.hparams["features"]["digest"] == data.windows["train"].sequences.digest
    with _tracked(config, trained, settings.source, overrides, apart=not same_data) as tracked:
        record_data(settings.source, data, tracked)
        prefix = "" if same_data or config.log == "new" else f"{settings.source}/"
        title = f"{trained.id if trained else checkpoint.name} on {settings.source}"
        metrics = review(forecaster, data, tracked, config.evaluation, title=title, prefix=prefix)
    print(f"report   {tracked.folder / 'report.html'}")
    print(summary.last_line(tracked.id, "FINISHED", metrics), flush=True)
    return metrics


def _compare(first: str, second: str, config: EvaluateConfig) -> dict[str, float]:
    loaded = [load_assessment(_find(name, config).fetch(ASSESSMENT)) for name in (first, second)]
    names = (first[:8], second[:8])
    found = compare(*loaded, names=names, generator=np.random.default_rng(0))
    for what, comparison in found.items():
        print(f"{what:<16}{comparison.sentence()}")
    return {f"ratio/{what}": float(comparison.ratio.value) for what, comparison in found.items()}


def _find(run_id: str, config: EvaluateConfig) -> TrackedRun:
    client, found = store.find_run(run_id, root=PROJECT_ROOT, uri=config.tracking.uri)
    return TrackedRun(client, found, staging=STAGING, ended=True)


def _tracked(
    config: EvaluateConfig, trained: TrackedRun | None, source: str, overrides: Sequence[str], *, apart: bool
) -> TrackedRun:
    if config.log == "same" and trained is not None:
        trained.folder = trained.folder / "evaluations" / source if apart else trained.folder
        return trained
    tracking = config.tracking
    of = {"evaluated_run": trained.id} if trained else {"evaluated_checkpoint": str(config.checkpoint)}
    tags = (tracking.tags or {}) | of | provenance.code(PROJECT_ROOT)
    client, created = store.create_run(
        root=PROJECT_ROOT,
        uri=tracking.uri,
        experiment=tracking.experiment,
        name=tracking.run_name or f"evaluation on {source}",
        tags=tags | {"command": provenance.command(overrides)},
    )
    return TrackedRun(client, created, staging=STAGING)


def _load_forecaster(path: Path) -> Forecaster:
    checkpoint = read_checkpoint(path)
    _, model = trained_model(path, checkpoint)
    try:
        forecaster = Forecaster(**checkpoint["hyper_parameters"])
    except (TypeError, KeyError) as error:
        received = f"settings of another version ({type(error).__name__}: {error})"
        raise InputError(str(path), expected=A_CHECKPOINT, received=received) from error
    forecaster.model = model
    return forecaster.eval()


def recorded_data(trained: TrackedRun | None) -> sources.DataSettings:
    """Settings of the data that a run was trained on.

    Raises:
        InputError: If this version does not know such data.
    """
    assert trained is not None, "a checkpoint comes with data"
    path = trained.fetch("config.yaml")
    try:
        return TypeAdapter(DataConfig).validate_python(read_settings(path, key="run").get("data"))
    except ValidationError as error:
        expected, detail = "settings of data that this version knows", error.errors()[0]
        received = f"{'.'.join(map(str, ('data', *detail['loc'])))}: {detail['msg']}"
        remedy = "Name the data to judge the run on: data=…"
        raise InputError(str(path), expected=expected, received=received, remedy=remedy) from error


def _check_features(forecaster: Forecaster, data: WindowDataModule) -> None:
    sequences, trained = data.windows["train"].sequences, forecaster.hparams["features"]
    for what, ours, theirs in (
        ("features", trained["names"], sequences.feature_names),
        ("known inputs", trained["known"], sequences.known_names),
    ):
        if tuple(ours) != tuple(theirs):
            expected = f"the {what} of training ({', '.join(ours) or 'none'})"
            raise InputError("data", expected=expected, received=", ".join(theirs) or "none")
