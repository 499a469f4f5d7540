"""Training that begins from a run."""

import pytest
from helpers import ROOT, SMALL, artifacts, client, newest
from helpers import train as train_command_line
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.commands import evaluate as evaluate_command
from foretrace.commands import runs as runs_command
from foretrace.commands import train as train_command
from foretrace.errors import UserError
from foretrace.workspace import Workspace


@pytest.fixture
def begin(trained, bare, composed):
    """Trains one epoch from a run, with a rate so low that weights stay what they were."""
    here = trained.copy(bare)

    def begin_from(ancestor, *overrides):
        start = [f"model.init_from={ancestor}", "optimizer.lr=1e-12", "data.episodes=8", *overrides]
        metrics = train_command.run(composed(*SMALL, *start), workspace=Workspace(here.root))
        return metrics, newest(here.root)

    return here, begin_from


def test_run_begins_from_a_run_and_records_its_ancestor(begin, no_pictures, capsys):
    here, begin_from = begin
    metrics, run = begin_from(here.run_id)
    before = client(here.root).get_run(here.run_id).data.metrics
    assert metrics["test/mse"] == pytest.approx(before["test/mse"], rel=1e-4)
    assert run.data.tags["initialized_from"] == here.run_id
    runs_command.show(5, workspace=Workspace(here.root))
    line, said = f"from {here.run_id}: lstm.0, head", capsys.readouterr().out
    assert f"begin    {line}" in said
    assert f"seed 1 from {here.run_id[:8]}\n" in said
    assert line in (artifacts(here.root, run.info.run_id) / "initialization.txt").read_text()


def test_ancestor_that_does_not_exist_leaves_no_run(begin):
    here, begin_from = begin
    with pytest.raises(UserError, match=r"model\.init_from"):
        begin_from("abc")
    assert len(client(here.root).search_runs(["1"])) == 2


def test_evaluation_on_new_data_shows_the_ancestor_beside_the_run(begin, no_pictures, composed, capsys):
    here, begin_from = begin
    _, run = begin_from(here.run_id)
    new = [
        "data=halfcheetah",
        "data.episodes=4",
        "data.steps=60",
        "data.seed=9",
        "data.window=10",
        "data.stride=10",
    ]
    words = [f"run={run.info.run_id}", *new, "evaluation={warmup: 8, horizon: 10}"]
    evaluate_command.run(composed(*words, command="evaluate"), workspace=Workspace(here.root))
    said = capsys.readouterr().out
    assert f"the model and its ancestor {here.run_id[:8]} are not distinguishable" in said
    ratio = newest(here.root).data.metrics["ancestor/ratio/zero_state"]
    assert ratio == pytest.approx(1, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("more", [["-m", "seed=1,2"], ["trainer.devices=2"]])
def test_jobs_of_a_sweep_and_two_processes_begin_from_a_run(trained, bare, more):
    here = trained.copy(bare)
    words = [*more, *SMALL, "data.episodes=8", f"model.init_from={here.run_id}"]
    done = train_command_line(ROOT, *words, cwd=bare)
    assert done.returncode == 0, done.stderr
    tags = [run.data.tags for run in client(here.root).search_runs(["1"])]
    begun = [one for one in tags if one.get("initialized_from") == here.run_id]
    assert len(begun) == (2 if "-m" in more else 1)
    assert all((MLFLOW_PARENT_RUN_ID in one) == ("-m" in more) for one in begun)
