"""Judging what was trained before: a run, a checkpoint, or one run against another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pydantic import TypeAdapter, ValidationError

from foretrace.commands.metadata import record_data
from foretrace.commands.report import evaluate_and_report
from foretrace.config import DataConfig, EvaluateConfig
from foretrace.config.parse import parse
from foretrace.config.run_config import read_run_config
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.errors import InputError
from foretrace.evaluation.storage import EVALUATION, load_evaluation
from foretrace.reports import console
from foretrace.serving.loading import trained_model
from foretrace.tracking import provenance, store
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.stored import StoredRun
from foretrace.training.checkpoint_io import read_checkpoint
from foretrace.training.log_filters import filter_library_logs
from foretrace.training.module import Forecaster
from foretrace.workspace import Workspace

BEST = "checkpoints/best.ckpt"


def run(
    cfg: EvaluateConfig | DictConfig | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    workspace: Workspace,
) -> dict[str, float]:
    """Judges one model on a test part, or says whether one of two is better.

    Returns:
        The test metrics by the names under which they are tracked; of two runs, the ratio of their errors.

    Raises:
        InputError: If something that the user gave cannot be used; then nothing is recorded.
    """
    config = cfg if isinstance(cfg, EvaluateConfig) else parse(cfg, EvaluateConfig)
    filter_library_logs()
    if config.runs is not None:
        return _compare(config.runs[0], config.runs[1], config, workspace)
    trained = _find(config.run, config, workspace) if config.run is not None else None
    checkpoint = trained.download_artifact(BEST) if trained else Path(str(config.checkpoint))
    forecaster = _load_forecaster(checkpoint)
    settings = config.data or recorded_data(trained)
    sources.check(settings)
    data = sources.load(settings, cache=workspace.cache)
    _check_features(forecaster, data)
    same_data = forecaster.hparams["features"]["digest"] == data.windows["train"].sequences.digest
    with _tracked(config, trained, settings.source, overrides, workspace, apart=not same_data) as tracked:
        record_data(settings.source, data, tracked)
        prefix = "" if same_data or config.log == "new" else f"{settings.source}/"
        title = f"{trained.id if trained else checkpoint.name} on {settings.source}"
        metrics = evaluate_and_report(
            forecaster.model, data, tracked, config.evaluation, title=title, prefix=prefix
        )
    print(f"report   {tracked.folder / 'report.html'}")
    print(console.last_line(tracked.id, "FINISHED", metrics), flush=True)
    return metrics


def _compare(first: str, second: str, config: EvaluateConfig, workspace: Workspace) -> dict[str, float]:
    ours, theirs = (
        load_evaluation(_find(name, config, workspace).download_artifact(EVALUATION))
        for name in (first, second)
    )
    found = ours.compare(theirs, names=(first[:8], second[:8]))
    for where, comparison in found.items():
        print(f"{where:<16}{comparison.sentence()}")
    return {f"ratio/{where}": float(comparison.ratio.value) for where, comparison in found.items()}


def _find(run_id: str, config: EvaluateConfig, workspace: Workspace) -> TrackedRun:
    client, found = store.find_run(run_id, workspace=workspace, uri=config.tracking.uri)
    return TrackedRun(client, found, staging=workspace.staging, ended=True)


def _tracked(
    config: EvaluateConfig,
    trained: TrackedRun | None,
    source: str,
    overrides: Sequence[str],
    workspace: Workspace,
    *,
    apart: bool,
) -> TrackedRun:
    if config.log == "same" and trained is not None:
        trained.folder = trained.folder / "evaluations" / source if apart else trained.folder
        return trained
    tracking = config.tracking
    of = {"evaluated_run": trained.id} if trained else {"evaluated_checkpoint": str(config.checkpoint)}
    tags = (tracking.tags or {}) | of | provenance.code(workspace.root)
    client, created = store.create_run(
        workspace=workspace,
        uri=tracking.uri,
        experiment=tracking.experiment,
        name=tracking.run_name or f"evaluation on {source}",
        tags=tags | {"command": provenance.command(overrides)},
    )
    return TrackedRun(client, created, staging=workspace.staging)


def _load_forecaster(path: Path) -> Forecaster:
    checkpoint = read_checkpoint(path)
    _, model = trained_model(path, checkpoint)
    try:
        forecaster = Forecaster(**checkpoint["hyper_parameters"])
    except (TypeError, KeyError) as error:
        received = f"settings of another version ({type(error).__name__}: {error})"
        raise InputError(str(path), expected="a checkpoint of a training run", received=received) from error
    forecaster.model = model
    return forecaster.eval()


def recorded_data(trained: StoredRun | None) -> sources.DataSettings:
    """Settings of the data that a run was trained on.

    Raises:
        InputError: If this version does not know such data.
    """
    assert trained is not None, "a checkpoint comes with data"
    path = trained.download_artifact("config.yaml")
    try:
        return TypeAdapter(DataConfig).validate_python(read_run_config(path, key="run").get("data"))
    except ValidationError as error:
        expected, detail = "settings of data that this version knows", error.errors()[0]
        received = f"{'.'.join(map(str, ('data', *detail['loc'])))}: {detail['msg']}"
        remedy = "Name the data to judge the run on: data=…"
        raise InputError(str(path), expected=expected, received=received, remedy=remedy) from error


def _check_features(forecaster: Forecaster, data: WindowDataModule) -> None:
    sequences, trained = data.windows["train"].sequences, forecaster.hparams["features"]
    for what, ours, theirs in (
        ("features", trained["names"], sequences.feature_names),
        ("covariates", trained["covariates"], sequences.covariate_names),
    ):
        if tuple(ours) != tuple(theirs):
            expected = f"the {what} of training ({', '.join(ours) or 'none'})"
            raise InputError("data", expected=expected, received=", ".join(theirs) or "none")
