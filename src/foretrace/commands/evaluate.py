"""Evaluation of what was trained before: a run, a checkpoint, or one run against another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pydantic import TypeAdapter, ValidationError

from foretrace.commands.metadata import log_curves, record_data
from foretrace.commands.report import evaluate_and_report
from foretrace.config import DataConfig, EvaluateConfig, PublishedData
from foretrace.config.parse import parse
from foretrace.config.run_config import read_run_config
from foretrace.data import sources
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.sequences import Sequences
from foretrace.data.splits import Splits
from foretrace.errors import UserError
from foretrace.evaluation.compare import Comparison
from foretrace.evaluation.evaluate import evaluate
from foretrace.evaluation.progress import show_progress
from foretrace.evaluation.references import References, fit_references
from foretrace.evaluation.storage import EVALUATION, load_evaluation
from foretrace.reports import console
from foretrace.serving.ancestor import load_ancestor
from foretrace.serving.loading import find_trained, load_ensemble, load_path
from foretrace.serving.model_file import ModelCard
from foretrace.tracking import provenance, store
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.stored import StoredRun
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace


def run(
    cfg: EvaluateConfig | DictConfig | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    workspace: Workspace,
) -> dict[str, float]:
    """Evaluate one model on a test part or on new recordings, or say whether one of two runs is better.

    Returns:
        The test metrics by the names under which they are tracked; of two runs, the ratio of their errors.

    Raises:
        UserError: If something that the user gave cannot be used; then nothing is recorded.
    """
    config = cfg if isinstance(cfg, EvaluateConfig) else parse(cfg, EvaluateConfig)
    filter_library_logs()
    if config.runs is not None:
        return _compare(config.runs[0], config.runs[1], config, workspace)
    trained = None
    if config.run is not None:
        trained = find_trained(config.run, uri=config.tracking.uri, workspace=workspace)
        predictor = load_ensemble(config.run, uri=config.tracking.uri, workspace=workspace)
    else:
        predictor = load_path(Path(str(config.checkpoint)).expanduser())
    recorded = recorded_data(trained) if trained else None
    settings = config.data or recorded
    assert settings is not None, "a checkpoint comes with data"
    sources.check(settings)
    is_split = any(text.lstrip("+").startswith(("data.split=", "data.split.")) for text in overrides)
    data, same_data = _load_data(predictor.card, settings, recorded, workspace, is_split=is_split)
    train, valid = (data.windows[part].sequences for part in ("train", "valid"))
    with _tracked(
        config, predictor.run_ids, settings.source, overrides, workspace, apart=not same_data
    ) as tracked:
        record_data(settings.source, data, tracked)
        prefix = "" if same_data or config.log_to == "new_run" else f"{settings.source}/"
        title = f"{config.run or Path(str(config.checkpoint)).name} on {settings.source}"
        with show_progress():
            references = fit_references(predictor.model, train=train, valid=valid, settings=config.evaluation)
            metrics = evaluate_and_report(
                predictor.model, data, references, tracked, config.evaluation, title=title, prefix=prefix
            )
        if trained and metrics and (name := trained.tags.get("initialized_from")):
            ratios = _compare_with_ancestor(name, data, tracked, config, workspace)
            tracked.log_metrics({f"{prefix}ancestor/{what}": value for what, value in ratios.items()}, step=0)
        if config.tracking.csv:
            log_curves(tracked)
    if len(predictor.run_ids) > 1 and metrics and same_data:
        _tell_members(predictor.run_ids, tracked, config, workspace)
    print(f"report   {tracked.folder / 'report.html'}")
    print(console.last_line(tracked.id, "FINISHED", metrics), flush=True)
    return metrics


def _tell_members(
    run_ids: Sequence[str], tracked: TrackedRun, config: EvaluateConfig, workspace: Workspace
) -> None:
    """Say how the models together compare with each of them, one step and farthest ahead."""
    print(f"ensemble the mean of {len(run_ids)} models, at {len(run_ids)} times the cost of one")
    ours = load_evaluation(tracked.folder / EVALUATION)
    for run_id in run_ids:
        theirs = load_evaluation(_find(run_id, config, workspace).download_artifact(EVALUATION))
        found = list(ours.compare(theirs, names=("the ensemble", run_id[:8])).values())
        for comparison in dict.fromkeys((found[0], found[-1])):
            print(f"  {comparison.where:<16}{comparison.sentence()}")


def _load_data(
    card: ModelCard,
    settings: sources.DataSettings,
    recorded: sources.DataSettings | None,
    workspace: Workspace,
    *,
    is_split: bool,
) -> tuple[WindowDataModule, bool]:
    """Return the data to evaluate on as the test part, and whether they are those of training.

    New recordings are evaluated whole, beside baselines that are fitted to the training data, read again.

    Args:
        card: Of what is evaluated.
        settings: Of the data.
        recorded: Settings of the training data; None for a checkpoint, which names none.
        workspace: Where data are cached.
        is_split: Whether the test part of new recordings is asked for.

    Raises:
        UserError: If the training data cannot be read, or the new ones differ in features, time step or a unit.
    """
    by_part, only_test, whole = True, False, None
    if not isinstance(settings, PublishedData):
        by_part = is_split and settings.split.test < 1
        only_test = not (settings.split.train and settings.split.valid)
        whole = sources.read(settings, cache=workspace.cache)[0]
        _check_columns(card, whole)
        if only_test and recorded is None:
            hint = "Give the other parts a share in data.split"
            raise UserError("a checkpoint names no training data, which baselines are fitted to", hint=hint)
        if only_test and by_part:
            whole = sources.split_up(settings, whole)[0].test
    try:
        data = None if only_test else sources.load(settings, cache=workspace.cache)
    except UserError:
        if whole is None or by_part or recorded is None:
            raise
        data = None  # too short to be split, which is not asked for
    if data is not None:
        _check_columns(card, data.windows["train"].sequences)
        if card.data_digest == data.windows["train"].sequences.digest:
            return data, True
        if recorded is None:
            print(
                "note     baselines are fitted to the new data's own training part: a checkpoint names no other"
            )
            return data, False
        if by_part:
            whole = data.windows["test"].sequences if "test" in data.windows else None
    assert recorded is not None
    try:
        parts = sources.load(recorded, cache=workspace.cache)
    except UserError as error:
        said = f"the training data, to which the baselines are fitted, cannot be read again: {error.message}"
        raise UserError(said, hint=error.hint) from error
    train, valid = (parts.windows[part].sequences for part in ("train", "valid"))
    what = "the test part of the new data is evaluated" if by_part else "all new recordings are evaluated"
    print(f"note     {what}, beside baselines that are fitted to the training data, read again")
    missing = "" if data is None else data.test_missing
    splits = Splits(train=train, valid=valid, test=whole, test_missing=missing)
    windows = {name: getattr(settings, name) for name in ("window", "stride", "batch_size")}
    try:
        return WindowDataModule(splits, **windows, seed=0, random_offset=False), False
    except ValueError as error:
        raise UserError(f"data.window: {error}", hint="Set a shorter data.window.") from error


def _compare(first: str, second: str, config: EvaluateConfig, workspace: Workspace) -> dict[str, float]:
    ours, theirs = (
        load_evaluation(_find(name, config, workspace).download_artifact(EVALUATION))
        for name in (first, second)
    )
    return _told(ours.compare(theirs, names=(first[:8], second[:8])))


def _compare_with_ancestor(
    name: str, data: WindowDataModule, tracked: TrackedRun, config: EvaluateConfig, workspace: Workspace
) -> dict[str, float]:
    """Say whether a model is better than the one that its training began from, on the same data."""
    test, alone = data.windows["test"], References(baselines=(), calibration=None)
    ours = (test.sequences.feature_names, test.sequences.covariate_names)
    try:
        ancestor = load_ancestor(name, uri=config.tracking.uri, workspace=workspace)
        if (ancestor.feature_names, ancestor.covariate_names) != ours:
            raise UserError(f"{name} reads other columns")
    except UserError as error:
        print(f"note     its ancestor is not evaluated: {error.message}")
        return {}
    theirs = evaluate(ancestor.model, test, alone, settings=config.evaluation)
    own = load_evaluation(tracked.folder / EVALUATION)
    return _told(own.compare(theirs, names=("the model", f"its ancestor {name[:8]}")))


def _told(found: Mapping[str, Comparison]) -> dict[str, float]:
    for where, comparison in found.items():
        print(f"{where:<16}{comparison.sentence()}")
    return {f"ratio/{where}": float(comparison.ratio.value) for where, comparison in found.items()}


def _find(run_id: str, config: EvaluateConfig, workspace: Workspace) -> TrackedRun:
    client, found = store.find_run(run_id, workspace=workspace, uri=config.tracking.uri)
    return TrackedRun(client, found, staging=workspace.staging, ended=True)


def _tracked(
    config: EvaluateConfig,
    run_ids: Sequence[str],
    source: str,
    overrides: Sequence[str],
    workspace: Workspace,
    *,
    apart: bool,
) -> TrackedRun:
    if config.log_to == "evaluated_run" and config.run is not None:
        trained = _find(config.run, config, workspace)
        trained.folder = trained.folder / "evaluations" / source if apart else trained.folder
        return trained
    tracking = config.tracking
    of = {"evaluated_run": config.run} if config.run else {"evaluated_checkpoint": str(config.checkpoint)}
    of |= {"ensemble": ", ".join(run_ids)} if len(run_ids) > 1 else {}
    tags = (tracking.tags or {}) | of | provenance.code(workspace.root)
    client, created = store.create_run(
        workspace=workspace,
        uri=tracking.uri,
        experiment=tracking.experiment,
        name=tracking.run_name or f"evaluation on {source}",
        tags=tags | {"command": provenance.command(overrides)},
    )
    return TrackedRun(client, created, staging=workspace.staging)


def recorded_data(trained: StoredRun) -> sources.DataSettings:
    """Return the settings of the data that a run was trained on.

    Raises:
        UserError: If this version does not know such data.
    """
    path = trained.download_artifact("config.yaml")
    try:
        return TypeAdapter(DataConfig).validate_python(read_run_config(path, key="run").get("data"))
    except ValidationError as error:
        detail = error.errors()[0]
        said = f"{path}: {'.'.join(map(str, ('data', *detail['loc'])))}: {detail['msg']}"
        raise UserError(said, hint="Name the data to evaluate the run on: data=…") from error


def _check_columns(card: ModelCard, sequences: Sequences) -> None:
    for what, ours, theirs in (
        ("features", card.feature_names, sequences.feature_names),
        ("covariates", card.covariate_names, sequences.covariate_names),
    ):
        if tuple(ours) != tuple(theirs):
            raise UserError(
                f"data: the {what} are {', '.join(theirs) or 'none'}, where the model was trained on"
                f" {', '.join(ours) or 'none'}"
            )
    card.check_units(sequences)
