"""A sweep from its first job to its last line: nothing is lost, done twice, or told otherwise than it was."""

import json
from collections import Counter

import pytest
from helpers import artifacts, client
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.config import Tracking
from foretrace.errors import UserError
from foretrace.sweeps.sweep import begin, reopen, run
from foretrace.tracking.recovery import Process
from foretrace.workspace import Workspace

pytest.importorskip("optuna")
from optuna.trial import TrialState

from foretrace.sweeps.search import journal

TRACKING = Tracking(uri=None, experiment="sweeps", run_name=None, tags=None)
JOBS = [["model.dropout=0", "seed=1"], ["model.dropout=0.1", "seed=1"]]
PLAN = {"overrides": ["optimizer.lr=interval(0,1)"], "n_trials": 3, "seed": 1, "pruning": None}


class Job:
    """A job that has ended already: what it leaves in the store, and its exit status."""

    def __init__(self, status):
        self.poll = lambda: status

    def terminate(self):
        """Do nothing."""


class Trainer:
    """Stands for the command: does with each job what ``ends`` says, then FINISHED.

    Args:
        root: Of the workspace.
        ends: By a part of a job's overrides, how it ends, one word for each time it is started.
    """

    def __init__(self, root, **ends):
        self.client, self.ends, self.started = client(root), {k: list(v) for k, v in ends.items()}, []
        self.root = root

    def __call__(self, overrides):
        self.started.append(overrides)
        job = " ".join(overrides)
        end = next((words.pop(0) for part, words in self.ends.items() if part in job and words), "FINISHED")
        if end == "NO RUN":
            return Job(2)
        values = dict(one.split("=", 1) for one in overrides)
        own = [one for one in overrides if not one.startswith(("sweep.", "resume="))]
        tags = {MLFLOW_PARENT_RUN_ID: values["sweep.parent"], "sweep.job": json.dumps(own)}
        tags |= {"sweep.trial": values["sweep.trial"]} if "sweep.trial" in values else {}
        [experiment] = [one for one in self.client.search_experiments() if one.name == "sweeps"]
        run_id = (
            values.get("resume") or self.client.create_run(experiment.experiment_id, tags=tags).info.run_id
        )
        self.client.log_metric(
            run_id, "val/mse", float(values.get("model.dropout", values.get("optimizer.lr", 0)))
        )
        if end == "KILLED":
            checkpoint = artifacts(self.root, run_id) / "checkpoints/last.ckpt"
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.touch()
            gone = Process.this()._replace(started="0").tags()
            for name, value in gone.items():
                self.client.set_tag(run_id, name, value)
            return Job(-9)
        if end in ("PRUNED", "DIVERGED", "FAILED"):
            error = {"DIVERGED": "DivergedError: the loss is inf", "FAILED": "MemoryError: no room"}.get(
                end, ""
            )
            self.client.set_tag(run_id, "pruned" if end == "PRUNED" else "error", error)
        self.client.set_terminated(run_id, "FINISHED" if end in ("FINISHED", "PRUNED") else "FAILED")
        return Job(int(end in ("DIVERGED", "FAILED")))


@pytest.fixture
def grid(here):
    """A new sweep of two jobs."""
    return begin(
        {"jobs": JOBS}, tracking=TRACKING, workspace=Workspace(here), command=["model.dropout=0,0.1"]
    )


@pytest.fixture
def search(here):
    """A new search of three trials."""
    return begin({"search": PLAN}, tracking=TRACKING, workspace=Workspace(here), command=PLAN["overrides"])


def reopened(sweep):
    return reopen(sweep.id, workspace=sweep.workspace)


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_sweep_that_is_done_has_tables_and_a_verdict(here, grid, capsys):
    assert run(grid, Trainer(here), places=2) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith(f"sweep={grid.id} status=FINISHED 2 of 2 jobs done; best ")
    folder = artifacts(here, grid.id)
    assert str(folder / "summary.csv") in said
    assert (folder / "summary.csv").read_text().startswith("model.dropout,n,val/mse,val/mse 95% low,")
    assert len((folder / "children.csv").read_text().splitlines()) == 3
    parent = client(here).get_run(grid.id)
    assert parent.data.tags["best_settings"] == "model.dropout=0"
    assert f"#/runs/{parent.data.tags['best_child']}" in parent.data.tags["mlflow.note.content"]


def test_failure_stops_no_other_job_and_is_told(here, grid, capsys):
    assert run(grid, Trainer(here, **{"dropout=0 ": ["FAILED"]}), places=1) == 1
    said = capsys.readouterr()
    assert "failed   model.dropout=0: MemoryError: no room" in said.err
    *_, hint, last = said.out.splitlines()
    assert hint.endswith(f"sweep.resume={grid.id}")
    assert last.startswith(
        f"sweep={grid.id} status=FAILED 1 of 2 jobs done, 1 failed: model.dropout=0; best "
    )


def test_resumed_sweep_does_what_is_missing_and_nothing_else(here, grid, capsys):
    first = Trainer(here, **{"dropout=0.1": ["NO RUN"]})
    assert run(grid, first, places=1) == 1
    assert "failed   model.dropout=0.1: ended without a result, exit status 2" in capsys.readouterr().err
    assert "FAILED" in (artifacts(here, grid.id) / "children.csv").read_text()
    again = Trainer(here)
    assert run(reopened(grid), again, places=1) == 0
    assert [overrides[0] for overrides in again.started] == ["model.dropout=0.1"]
    assert "status=FINISHED 2 of 2 jobs done" in last_line(capsys)


def test_killed_job_is_taken_up_again_in_its_own_run(here, grid):
    trainer = Trainer(here, **{"dropout=0.1": ["KILLED"]})
    assert run(grid, trainer, places=2) == 0
    [killed] = [one for one in trainer.started if one[-1].startswith("resume=")]
    [resumed] = [child for child in grid.children() if child.job == tuple(JOBS[1])]
    assert killed[-1] == f"resume={resumed.run_id}"


def test_job_that_is_killed_again_and_again_is_given_up(here, grid):
    trainer = Trainer(here, **{"dropout=0.1": ["KILLED"] * 9})
    assert run(grid, trainer, places=2) == 1
    assert Counter(one[0] for one in trainer.started)["model.dropout=0.1"] == 3


def test_job_at_work_in_another_process_is_left_alone(here, grid, capsys):
    def start(overrides):
        raise AssertionError

    trainer = Trainer(here)
    for job in JOBS:
        trainer([*job, f"sweep.parent={grid.id}"])
    [first, _] = client(here).search_runs(["1"], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{grid.id}'")
    for name, value in Process.this().tags().items():
        client(here).set_tag(first.info.run_id, name, value)
    client(here).update_run(first.info.run_id, status="RUNNING")
    assert run(grid, start, places=1) == 1
    assert "is at work in another process" in capsys.readouterr().err


def test_sweep_killed_before_its_jobs_were_recorded_says_so(grid):
    with pytest.raises(UserError, match=r"before it had recorded its jobs\. Start it anew"):
        reopened(grid)


def test_second_of_two_resumes_refuses_in_one_line(grid):
    with grid, pytest.raises(UserError) as refused:
        run(reopened(grid), lambda overrides: Job(0), places=1)
    assert len(str(refused.value).splitlines()) == 1
    assert "work" in str(refused.value)


def test_search_tells_the_study_what_became_of_each_trial(here, search, capsys):
    ends = {"trial=0": ["PRUNED"], "trial=1": ["DIVERGED"]}
    assert run(search, Trainer(here, **ends), places=1) == 0
    assert " 3 of 3 jobs done, 1 of them pruned, 1 of them diverged; best " in last_line(capsys)
    with reopened(search) as again:
        found = again.study.trials
    assert [trial.state for trial in found] == [TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]


def test_failed_trial_stops_no_other(here, search):
    trainer = Trainer(here, **{"trial=1": ["NO RUN"]})
    assert run(search, trainer, places=2) == 1
    assert len(trainer.started) == 3


def test_killed_trial_is_taken_up_again(here, search):
    trainer = Trainer(here, **{"trial=1": ["KILLED"]})
    assert run(search, trainer, places=2) == 0
    of_second = [one for one in trainer.started if "sweep.trial=1" in one]
    assert len(of_second) == 2
    assert of_second[0][0] == of_second[1][0]  # the same learning rate


def test_search_that_was_cut_proposes_what_it_would_have(here, search):
    whole, cut = Trainer(here), Trainer(here)
    plan = PLAN | {"n_trials": 14}  # the last ones are modeled
    for trainer, interrupted in ((whole, False), (cut, True)):
        sweep = begin({"search": plan}, tracking=TRACKING, workspace=Workspace(here), command=[])
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                run(sweep, interrupting(trainer, after=12), places=1)
            with journal(sweep.workspace, sweep.id).open("a") as file:
                file.write('{"half a li')
            sweep = reopened(sweep)
        assert run(sweep, trainer, places=1) == 0
    assert [one[0] for one in whole.started] == [one[0] for one in cut.started]


def interrupting(trainer, *, after):
    def start(overrides):
        if len(trainer.started) == after:
            raise KeyboardInterrupt
        return trainer(overrides)

    return start


def test_search_is_resumed_for_more_trials(here, search):
    run(search, Trainer(here), places=1)
    again = Trainer(here)
    assert run(reopen(search.id, workspace=search.workspace, n_trials=4), again, places=1) == 0
    assert len(again.started) == 1


def test_search_whose_study_is_elsewhere_is_refused(here, search):
    run(search, Trainer(here), places=1)
    journal(search.workspace, search.id).unlink()
    with pytest.raises(UserError, match="there is no study"):
        reopened(search).check(lambda job: pytest.fail("composed"))
