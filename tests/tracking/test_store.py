import json

import pytest

from foretrace.commands import runs
from foretrace.errors import UserError
from foretrace.tracking.store import create_run, find_run
from foretrace.workspace import Workspace


def test_create_run_in_a_deleted_experiment_is_refused(begin, stored, workspace):
    tracked = begin()
    tracked.client.delete_experiment(stored(tracked).info.experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment: test was deleted"):
        begin()


def test_create_run_names_a_store_that_there_cannot_be(tmp_path):
    there = Workspace(tmp_path, "carrier-pigeon://coop")
    with pytest.raises(UserError, match=r"tracking\.uri: the tracking store does not answer"):
        create_run(there, experiment="test", name="one", tags={})


def test_a_database_without_tables_gets_them(begin, stored, workspace):
    workspace.database.write_bytes(b"")
    assert stored(begin()).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("run_id", "reason"), [("../x", "no run has the id"), ("0" * 32, "no run has the id")]
)
def test_find_run_without_such_a_run_says_so(begin, workspace, run_id, reason):
    begin()
    with pytest.raises(UserError, match=reason):
        find_run(run_id, workspace)


def test_find_run_in_an_empty_workspace_makes_nothing(tmp_path):
    with pytest.raises(UserError, match=r"there is no run in .* yet\. Train first"):
        find_run("0" * 32, Workspace(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_run_says_how_to_get_it_back(begin, workspace):
    tracked = begin()
    tracked.client.delete_run(tracked.id)
    with pytest.raises(UserError, match=rf"was deleted\. `mlflow runs restore --run-id {tracked.id}`"):
        find_run(tracked.id, workspace)


def test_a_new_experiment_has_a_view_of_its_table_which_the_list_of_runs_names(begin, workspace, capsys):
    tracked = begin()
    experiment = tracked.client.get_run(tracked.id).info.experiment_id
    tags = tracked.client.get_experiment(experiment).tags
    assert "metrics.`val/mse`" in json.loads(tags["mlflow.sharedViewState.foretrace"])["selectedColumns"]
    runs.show(5, workspace=workspace)
    page = f"http://localhost:5000/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert f"{page}&viewStateShareKey=foretrace" in capsys.readouterr().out
