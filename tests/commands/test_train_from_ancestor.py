"""Training that begins from a run."""

import pytest
from helpers import SMALL, artifacts, client, newest

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
    assert runs_command.line(run, now_ms=0).endswith(f"seed 1 from {here.run_id[:8]}")
    line = f"from {here.run_id}: lstm.0, head"
    assert f"begin    {line}" in capsys.readouterr().out
    assert line in (artifacts(here.root, run.info.run_id) / "initialization.txt").read_text()


def test_ancestor_that_does_not_exist_leaves_no_run(begin):
    here, begin_from = begin
    with pytest.raises(UserError, match=r"model\.init_from"):
        begin_from("abc")
    assert len(client(here.root).search_runs(["1"])) == 2
