"""Evaluation of what was trained before: a run, a checkpoint, or one run against another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from foretrace.commands.record import create_run, evaluate_and_report, log_curves, record_data
from foretrace.config import EvaluateConfig, PublishedData
from foretrace.config.parse import parse
from foretrace.config.run_config import read_data_config
from foretrace.data import sources
from foretrace.data.progress import show_progress
from foretrace.data.sources import WindowDataModule
from foretrace.data.splits import Splits
from foretrace.errors import UserError
from foretrace.evaluation.references import References
from foretrace.evaluation.result import EvaluationResult, evaluate
from foretrace.evaluation.storage import EVALUATION, load_evaluation
from foretrace.reports import console
from foretrace.serving.ancestor import load_ancestor
from foretrace.serving.loading import find_trained, load_ensemble, load_path
from foretrace.serving.model_file import ModelCard
from foretrace.tracking import store
from foretrace.tracking.run import TrackedRun
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace


def run(
    cfg: EvaluateConfig | DictConfig, *, overrides: Sequence[str] = (), workspace: Workspace
) -> dict[str, float]:
    """Evaluate one model on a test part or on new recordings, or say whether one of two runs is better.

    Returns:
        The test metrics by the names under which they are tracked; of two runs, the ratio of their errors.

    Raises:
        UserError: If something that the user gave cannot be used; then nothing is recorded.
    """
    config = cfg if isinstance(cfg, EvaluateConfig) else parse(cfg, EvaluateConfig)
    filter_library_logs()
    workspace = replace(workspace, uri=config.tracking.uri)
    if config.runs is not None:
        ours, theirs = (_evaluation_of(run_id, workspace) for run_id in config.runs)
        return _compare(ours, theirs, (config.runs[0][:8], config.runs[1][:8]))
    trained, recorded = None, None
    if config.run is not None:
        trained, predictor = find_trained(config.run, workspace), load_ensemble(config.run, workspace)
        recorded = read_data_config(trained.download_artifact("config.yaml"))
        title, tags = config.run, {"evaluated_run": config.run}
    else:
        path = Path(str(config.checkpoint)).expanduser()
        predictor, title, tags = load_path(path), path.name, {"evaluated_checkpoint": str(config.checkpoint)}
    settings = config.data or recorded
    assert settings is not None, "a checkpoint comes with data"
    is_split = any(text.lstrip("+").startswith(("data.split=", "data.split.")) for text in overrides)
    data, same_data = _load_data(predictor.card, settings, recorded, workspace, is_split=is_split)
    source, members, prefix = settings.source, predictor.run_ids, ""
    if config.run is not None and config.log_to == "evaluated_run":
        tracked = store.find_run(config.run, workspace, ended=True)
        if not same_data:  # beside what training found
            tracked.folder, prefix = tracked.folder / f"evaluations/{source}", f"{source}/"
    else:
        tags |= {"ensemble": ", ".join(members)} if len(members) > 1 else {}
        tracked = create_run(config.tracking, overrides, workspace, name=f"evaluation on {source}", tags=tags)
    with tracked:
        record_data(source, data, tracked)
        with show_progress():
            metrics, _ = evaluate_and_report(
                predictor.model, data, tracked, config.evaluation, title=f"{title} on {source}", prefix=prefix
            )
        if trained and metrics and (name := trained.tags.get("initialized_from")):
            ratios = _compare_with_ancestor(name, data, tracked, config, workspace)
            tracked.log_metrics({f"{prefix}ancestor/{what}": value for what, value in ratios.items()}, step=0)
        if config.tracking.csv:
            log_curves(tracked)
    if len(members) > 1 and metrics and same_data:
        _tell_members(members, tracked, workspace)
    print(f"report   {tracked.folder / 'report.html'}")
    print(console.last_line(tracked.id, "FINISHED", metrics), flush=True)
    return metrics


def _load_data(
    card: ModelCard,
    settings: sources.DataSettings,
    recorded: sources.DataSettings | None,
    workspace: Workspace,
    *,
    is_split: bool,
) -> tuple[WindowDataModule, bool]:
    """Return the data to evaluate on as the test part, and whether they are those of training.

    New recordings are evaluated whole, or their test part alone where a split is asked for, beside baselines that are
    fitted to the training data, read again. A checkpoint names no training data (``recorded``): the new ones' own
    training part stands in.

    Raises:
        UserError: If the training data cannot be read, or the new ones differ in features, time step or a unit.
    """
    data = test = None
    by_part = has_parts = True
    if not isinstance(settings, PublishedData):
        by_part = is_split and settings.split.test < 1
        has_parts = bool(settings.split.train and settings.split.valid)
        whole = sources.read(settings, cache=workspace.cache)[0]
        card.check_columns(whole)
        test = sources.split_up(settings, whole)[0].test if by_part else whole
    if has_parts:
        try:
            data = sources.load(settings, cache=workspace.cache)
        except UserError:
            if by_part or recorded is None:
                raise  # else too short to be split, which is not asked for
    if data is not None:
        train = data.windows["train"].sequences
        card.check_columns(train)
        if card.data_digest == train.digest:
            return data, True
    if recorded is None:
        if data is None:
            hint = "Give the other parts a share in data.split"
            raise UserError("a checkpoint names no training data, which baselines are fitted to", hint=hint)
        print("note     baselines are fitted to the new data's training part: a checkpoint names no other")
        return data, False
    if data is not None and isinstance(settings, PublishedData) and "test" in data.windows:
        test = data.windows["test"].sequences
    try:
        parts = sources.load(recorded, cache=workspace.cache)
    except UserError as error:
        said = f"the training data, to which the baselines are fitted, cannot be read again: {error.message}"
        raise UserError(said, hint=error.hint) from error
    what = "the test part of the new data is evaluated" if by_part else "all new recordings are evaluated"
    print(f"note     {what}, beside baselines that are fitted to the training data, read again")
    train, valid = (parts.windows[part].sequences for part in ("train", "valid"))
    splits = Splits(train=train, valid=valid, test=test, test_missing=data.test_missing if data else "")
    try:
        return WindowDataModule(splits, settings.model_copy(update={"train_window": None})), False
    except ValueError as error:
        raise UserError(f"data.window: {error}", hint="Set a shorter data.window.") from error


def _compare_with_ancestor(
    name: str, data: WindowDataModule, tracked: TrackedRun, config: EvaluateConfig, workspace: Workspace
) -> dict[str, float]:
    """Say whether a model is better than the one that its training began from, on the same data."""
    test, alone = data.windows["test"], References(baselines=(), calibration=None)
    ours = (test.sequences.feature_names, test.sequences.covariate_names)
    try:
        ancestor = load_ancestor(name, workspace)
        if (ancestor.feature_names, ancestor.covariate_names) != ours:
            raise UserError(f"{name} reads other columns")
    except UserError as error:
        print(f"note     its ancestor is not evaluated: {error.message}")
        return {}
    theirs = evaluate(ancestor.model, test, alone, settings=config.evaluation)
    own = load_evaluation(tracked.folder / EVALUATION)
    return _compare(own, theirs, ("the model", f"its ancestor {name[:8]}"))


def _compare(ours: EvaluationResult, theirs: EvaluationResult, names: tuple[str, str]) -> dict[str, float]:
    """Say for each kind of error whether one is better; return the ratios."""
    found = ours.compare(theirs, names=names)
    for where, comparison in found.items():
        print(f"{where:<16}{comparison.sentence()}")
    return {f"ratio/{where}": float(comparison.ratio.value) for where, comparison in found.items()}


def _tell_members(run_ids: Sequence[str], tracked: TrackedRun, workspace: Workspace) -> None:
    """Say how the models together compare with each of them, one step and farthest ahead."""
    print(f"ensemble the mean of {len(run_ids)} models, at {len(run_ids)} times the cost of one")
    ours = load_evaluation(tracked.folder / EVALUATION)
    for run_id in run_ids:
        theirs = _evaluation_of(run_id, workspace)
        found = list(ours.compare(theirs, names=("the ensemble", run_id[:8])).values())
        for comparison in dict.fromkeys((found[0], found[-1])):
            print(f"  {comparison.where:<16}{comparison.sentence()}")


def _evaluation_of(run_id: str, workspace: Workspace) -> EvaluationResult:
    return load_evaluation(store.find_run(run_id, workspace).download_artifact(EVALUATION))
