"""The store: runs made and found, and databases after a kill, in other hands, and where nothing may be written."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from mlflow import MlflowClient

from foretrace.commands import runs
from foretrace.errors import UserError
from foretrace.tracking import store
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.store import check_file, create_run, find_run, make_tables, open_store
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


COMMIT = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE half (content BLOB)")
connection.executemany("INSERT INTO half VALUES (randomblob(9000))", [()] * 300)
os.kill(os.getpid(), signal.SIGKILL)
"""
MIGRATE = """
import sys
from pathlib import Path
from foretrace.tracking.store import make_tables
make_tables(Path(sys.argv[1]))
"""
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
input()
"""


def test_a_kill_within_a_commit_is_rolled_back(begin, stored, workspace):
    tracked = begin()
    done = subprocess.run([sys.executable, "-c", COMMIT, str(workspace.database)])
    assert done.returncode == -signal.SIGKILL
    assert workspace.database.with_name("mlflow.db-journal").stat().st_size > 0
    assert runs.show(5, workspace=workspace) == 0
    assert stored(begin()).info.status == stored(tracked).info.status == "RUNNING"
    with closing(sqlite3.connect(workspace.database)) as database:
        assert database.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall() == []


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.05, 0.4, 1.2])
def test_a_kill_while_tables_are_made_leaves_the_way_free(begin, stored, tmp_path, after_s):
    there = Workspace(tmp_path / "new")
    there.root.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", MIGRATE, str(there.database)], stderr=subprocess.DEVNULL
    )
    while not list(there.root.glob("*mlflow.db*")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    process.kill()
    process.wait()
    with begin(there) as tracked:
        tracked.log_metrics({"loss": 1.0}, step=0)
    assert stored(tracked).info.status == "FINISHED"
    assert not list(there.root.glob(".mlflow.db.part*"))


def test_a_locked_database_is_called_locked_and_by_whom(workspace, monkeypatch):
    monkeypatch.setattr(store, "BUSY_S", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(
            UserError, match=rf"mlflow\.db: .* is locked by process {process.pid}\. Wait for it"
        ):
            open_store(workspace)
        process.communicate(b"\n")
    assert check_file(workspace.database)


@pytest.mark.slow
def test_a_run_waits_for_a_database_that_another_program_has_locked(begin, stored, workspace, capsys):
    with begin() as tracked, closing(sqlite3.connect(workspace.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        tracked.log_metrics({"loss": 1.0}, step=0)
        tracked.flush(sync=True)
        time.sleep(5)
        other.execute("COMMIT")
    assert "does not answer; records wait on disk" in capsys.readouterr().err
    assert (stored(tracked).info.status, stored(tracked).data.metrics) == ("FINISHED", {"loss": 1.0})


def as_nobody(act) -> str:
    """What a user without rights is told, in a process of its own."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.setuid(65534)
            act()
            said = "nothing"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        return file.read()


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user")
def test_a_folder_that_may_not_be_written_is_one_line_everywhere(begin, stored, workspace):
    tracked = begin()
    found = stored(tracked)
    for folder in (workspace.root, *workspace.root.parents[:-1]):
        folder.chmod(0o755)
    workspace.staging.mkdir(exist_ok=True)
    resumed = TrackedRun(tracked.client, found, staging=workspace.staging)
    added = TrackedRun(tracked.client, found, staging=workspace.staging, ended=True)
    for act in (begin, resumed.__enter__, added.__enter__):
        said = as_nobody(act)
        assert said.startswith("UserError: mlruns: user 65534 may not write "), said


def test_make_tables_writes_through_a_link_and_removes_what_a_kill_left(tmp_path):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / ".mlflow.db.part-journal").touch()
    (tmp_path / "mlflow.db").symlink_to("mlruns/mlflow.db")
    make_tables(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").is_symlink()
    assert [path.name for path in (tmp_path / "mlruns").iterdir()] == ["mlflow.db"]
    assert len(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()) == 1
