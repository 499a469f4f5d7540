"""Judging runs that were trained before."""

import pytest
import torch
from helpers import client, train

from foretrace.commands import evaluate as evaluate_command
from foretrace.errors import InputError
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
                    "data.window=10", "data.stride=10", "log=same")  # fmt: skip
    after = client(place).get_run(first)
    assert after.data.metrics["halfcheetah/test/mse"] == metrics["test/mse"]
    assert after.data.metrics["test/mse"] == before.data.metrics["test/mse"] != metrics["test/mse"]
    assert after.info.status == "FINISHED"
    assert after.info.end_time == before.info.end_time


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
    "run=abc": "run: expected the id of a run, received abc",
    "log=same": "run: expected one of run, checkpoint and runs, received none",
    "checkpoint=x.ckpt": "data: expected a data set beside a checkpoint",
    "runs=[a]": "runs: ",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_cannot_be_judged_is_named(judge, override):
    with pytest.raises(InputError, match=WRONG[override]):
        judge(override)


def test_a_foreign_file_is_no_checkpoint_and_is_not_executed(judge, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    torch.save({"hyper_parameters": Trap(), "state_dict": {}}, tmp_path / "trap.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    for name in ("trap.ckpt", "text.ckpt", "missing.ckpt"):
        with pytest.raises(InputError, match="expected a checkpoint of a training run"):
            judge(f"checkpoint='{tmp_path / name}'", "data=halfcheetah")
    assert not (tmp_path / "trapped").exists()


def test_features_other_than_those_of_training_are_named(trained, judge, tmp_path):
    first = trained.run_id
    (tmp_path / "other.csv").write_text("height\n" + "\n".join(str(n) for n in range(300)))
    with pytest.raises(InputError, match=r"data: expected the features of training .*received height"):
        judge(f"run={first}", "data=files", f"data.path='{tmp_path / 'other.csv'}'", "data.window=10")


def test_the_command_in_a_fresh_checkout_says_that_there_is_no_run(checkout):
    done = train(checkout, "run=abc", command="evaluate", cwd=checkout)
    assert done.returncode == 2
    assert (
        done.stderr == "error: run: expected a run in this checkout, received no run at all. Train first.\n"
    )
