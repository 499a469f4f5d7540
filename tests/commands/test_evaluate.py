"""Evaluating runs that were trained before."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import client
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.commands import evaluate as evaluate_command
from foretrace.errors import UserError
from foretrace.workspace import Workspace


@pytest.fixture
def place(trained, bare):
    """The trained runs, to add to."""
    return trained.copy(bare).root


@pytest.fixture
def judge(place, composed):
    evaluation = "evaluation={warmup: 8, horizon: 10}"
    return lambda *overrides: evaluate_command.run(
        composed(evaluation, *overrides, command="evaluate"), workspace=Workspace.default()
    )


def test_judging_a_run_again_finds_what_training_found(trained, place, judge):
    first = trained.run_id
    before = client(place).get_run(first).data.metrics
    again = judge(f"run={first}")
    assert again == pytest.approx({name: before[name] for name in again}, rel=1e-6)
    latest = client(place).search_runs(["1"], max_results=1)[0]
    assert latest.data.tags["evaluated_run"] == first


def test_other_data_are_recorded_in_the_same_run_under_their_own_name(trained, place, judge):
    first = trained.run_id
    before = client(place).get_run(first)
    metrics = judge(f"run={first}", "data=halfcheetah", "data.episodes=4", "data.steps=60", "data.seed=9",
                    "data.window=10", "data.stride=10", "log_to=evaluated_run")  # fmt: skip
    after = client(place).get_run(first)
    assert after.data.metrics["halfcheetah/test/mse"] == metrics["test/mse"]
    assert after.data.metrics["test/mse"] == before.data.metrics["test/mse"] != metrics["test/mse"]
    assert after.info.status == "FINISHED"
    assert after.info.end_time == before.info.end_time


def test_a_sweep_is_evaluated_as_the_seeds_of_its_best_settings_together(trained, place, judge, capsys):
    store = client(place)
    parent = store.create_run("1", tags={"best_child": trained.run_ids[0]}).info.run_id
    for seed, run_id in enumerate(trained.run_ids, start=1):
        store.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
        store.set_tag(run_id, "sweep.job", json.dumps([f"seed={seed}"]))
    both = judge(f"run={parent}")["test/mse"]
    said = capsys.readouterr().out
    each = [store.get_run(run_id).data.metrics["test/mse"] for run_id in trained.run_ids]
    assert both < np.mean(each)  # a mean of forecasts has less error than the mean error of forecasts
    assert "ensemble the mean of 2 models, at 2 times the cost of one" in said
    assert all(run_id[:8] in said for run_id in trained.run_ids)
    latest = store.search_runs(["1"], max_results=1)[0]
    assert latest.data.tags["ensemble"] == ", ".join(trained.run_ids)


def test_two_runs_are_paired_on_the_same_episodes(trained, judge, capsys):
    first, second = trained.run_ids
    ratios = judge(f"runs=[{first},{second}]")
    said = capsys.readouterr().out
    assert "not distinguishable over" in said
    assert ratios["ratio/zero_state"] != 1
    assert judge(f"runs=[{first},{first}]")["ratio/zero_state"] == 1


def test_a_checkpoint_is_judged_on_named_data(trained, place, judge):
    first = trained.run_id
    checkpoint = place / "mlruns" / "artifacts" / first / "artifacts" / "checkpoints" / "best.ckpt"
    small = ["data=halfcheetah", "data.episodes=8", "data.steps=40", "data.window=10", "data.stride=10"]
    metrics = judge(f"checkpoint='{checkpoint}'", *small)
    assert metrics["test/mse"] == pytest.approx(
        client(place).get_run(first).data.metrics["test/mse"], rel=1e-6
    )


WRONG = {
    "run=abc": "run: no run has the id 'abc'",
    "log_to=evaluated_run": "give one of run, checkpoint and runs, got none",
    "checkpoint=x.ckpt": "data: a checkpoint alone names no data",
    "runs=[a]": "runs: ",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_cannot_be_judged_is_named(judge, override):
    with pytest.raises(UserError, match=WRONG[override]):
        judge(override)


def test_a_foreign_file_is_no_checkpoint_and_is_not_executed(judge, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    torch.save({"hyper_parameters": Trap(), "state_dict": {}}, tmp_path / "trap.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    for name in ("trap.ckpt", "text.ckpt", "missing.ckpt"):
        with pytest.raises(UserError, match=r"checkpoint|no file"):
            judge(f"checkpoint='{tmp_path / name}'", "data=halfcheetah")
    assert not (tmp_path / "trapped").exists()


def test_features_other_than_those_of_training_are_named(trained, judge, tmp_path):
    first = trained.run_id
    (tmp_path / "other.csv").write_text("height\n" + "\n".join(str(n) for n in range(300)))
    with pytest.raises(UserError, match=r"data: the features are height, where the model was trained on"):
        judge(f"run={first}", "data=files", f"data.path='{tmp_path / 'other.csv'}'", "data.window=10")


@pytest.fixture
def on_recordings(trained_on_files, bare, composed, tmp_path):
    """Evaluates a run on two recordings that it has not seen, 5 higher than those of training."""
    trained_on_files.copy(bare)
    generator = np.random.default_rng(1)
    for n in range(2):
        rows = np.stack(
            [35 + np.cos(np.arange(70) / 7), 0.01 * np.sin(np.arange(70) / 5), generator.normal(size=70)]
        )
        pd.DataFrame(rows.T, columns=["height", "angle", "push"]).to_csv(
            tmp_path / f"new{n}.csv", index=False
        )
    files = ["data=files", f"data.path='{tmp_path}/new*.csv'", "data.covariates=[push]", "data.window=10"]

    def on_recordings(*overrides):
        settings = [*files, "data.dt_s=0.1", "evaluation={warmup: 8, horizon: 10}", *overrides]
        cfg = composed(f"run={trained_on_files.run_id}", *settings, command="evaluate")
        return evaluate_command.run(cfg, overrides=settings, workspace=Workspace.default())

    return on_recordings


def test_new_recordings_are_evaluated_whole_beside_baselines_of_the_training_data(
    trained_on_files, on_recordings, tmp_path, no_pictures, capsys
):
    metrics = on_recordings()
    assert "all new recordings are evaluated" in capsys.readouterr().out
    recordings = [pd.read_csv(trained_on_files.root / f"{n}.csv") for n in range(8)]
    train = np.concatenate([recording.to_numpy()[:, :2] for recording in recordings])
    new = np.stack([pd.read_csv(tmp_path / f"new{n}.csv").to_numpy()[8:, :2] for n in range(2)])
    expected = ((new - train.mean(axis=0)) / train.std(axis=0)) ** 2
    assert metrics["carried_state/mean/mse"] == pytest.approx(expected.mean(), rel=0.02)
    assert metrics["carried_state/mean/mse"] > 10


def test_new_recordings_of_another_time_step_or_unit_are_refused(on_recordings):
    with pytest.raises(UserError, match=r"time step of 0\.2 s, where the model was trained on steps of 0\.1"):
        on_recordings("data.dt_s=0.2")
    with pytest.raises(UserError, match="height"):
        on_recordings("data.features=[height]")


def test_stated_units_other_than_those_of_training_are_refused(on_recordings, tmp_path):
    with pytest.raises(UserError, match="height is in ft, where the model was trained on m"):
        on_recordings("data.units={height: ft}")
    for new in tmp_path.glob("new*.csv"):
        new.write_text(new.read_text().replace("\n", "\nft,deg,N\n", 1))
    with pytest.raises(UserError, match="height is in ft, where the model was trained on m"):
        on_recordings("data.units_row=true")


def test_a_part_without_a_share_is_not_needed_for_evaluation(on_recordings, no_pictures, capsys):
    whole = on_recordings("data.split={train: 0, valid: 0, test: 1}")
    assert "all new recordings are evaluated" in capsys.readouterr().out
    assert whole == on_recordings()
    half = on_recordings("data.split={train: 0, valid: 0.5, test: 0.5}")
    assert "the test part of the new data is evaluated" in capsys.readouterr().out
    assert half["test/mse"] != whole["test/mse"]
