"""Search: what may be searched, and that no trial is lost, told twice or judged on the test part too early."""

import json
import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest
from helpers import SMALL, train
from hydra.core.override_parser.overrides_parser import OverridesParser

from foretrace.errors import InputError
from foretrace.sweeps import space
from foretrace.workspace import Workspace

pytest.importorskip("optuna")
from optuna.trial import TrialState

from foretrace.sweeps.study import Study, path

SETTINGS = {"n_trials": 3, "n_jobs": 1, "seed": 1, "pruning": None}
FULL = """
judge = review

def review(forecaster, *choices, **more):
    if forecaster.hparams["optimizer"]["lr"] == 0.002:
        raise MemoryError("no room")
    return judge(forecaster, *choices, **more)
"""
SEARCH = ["-m", "hydra/sweeper=optuna", *SMALL, "trainer.diagnose_every=null"]


def planned(*overrides):
    return space.plan(OverridesParser.create().parse_overrides(list(overrides)), SETTINGS)


SPACES = {
    "a=interval(0,5)": {"kind": "float", "low": 0, "high": 5},
    "a=int(interval(1,9))": {"kind": "int", "low": 1, "high": 9},
    "a=tag(log,interval(1e-4,1e-2))": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "a=tag(log,int(interval(1,100)))": {"kind": "int", "low": 1, "high": 100, "log": True},
    "a=range(1,10,3)": {"kind": "int", "low": 1, "high": 7, "step": 3},  # Hydra's ranges end before their end
    "a=range(0,1,0.25)": {"kind": "float", "low": 0, "high": 0.75, "step": 0.25},
    "a=range(9,1,-4)": {"kind": "int", "low": 5, "high": 9, "step": 4},
    "a=choice([32],[64])": {"kind": "choice", "choices": ("[32]", "[64]")},
    "a=1,2,x": {"kind": "choice", "choices": ("1", "2", "x")},
    "+a=1,2": {"key": "+a", "kind": "choice", "choices": ("1", "2")},
}


@pytest.mark.parametrize("override", SPACES)
def test_the_grammar_says_what_is_searched(override):
    [found] = planned(override, "seed=3").space
    assert found == space.Dimension(**{"key": "a"} | SPACES[override])


def test_the_last_word_on_a_setting_counts():
    found = planned("a=1,2", "b=interval(0,1)", "a=3", "sweep.trial=1")
    assert (found.names, found.fixed) == (["b"], ["a=3"])


WRONG = ["a=interval(5,0)", "a=interval(0,inf)", "a=tag(log,interval(0,1))", "a=tag(lin,interval(0,1))",
         "a=tag(log,choice(1,2))", "a=range(3,3)", "a=3"]  # fmt: skip


@pytest.mark.parametrize("override", WRONG)
def test_what_cannot_be_searched_is_refused(override):
    with pytest.raises(InputError):
        planned(override)


def test_wrong_ends_are_found_before_anything_is_made(checkout):
    wrong = {"model.dropout=interval(0,1.5)": "model.dropout: expected less than 1, received 1.5",
             "trainer.max_epochs=interval(1,5)": "trainer.max_epochs: expected a valid integer",
             "hydra.sweeper.n_trials=0": "hydra.sweeper.n_trials: expected greater than 0"}  # fmt: skip
    for override, reason in wrong.items():
        done = train(checkout, *SEARCH, "seed=1,2", override, cwd=checkout)
        [line] = done.stderr.splitlines()
        assert (done.returncode, reason in line) == (2, True), line
    assert list((checkout / "mlruns").iterdir()) == []


def test_a_search_that_was_cut_proposes_what_it_would_have(tmp_path):
    rate = space.Dimension(key="lr", kind="float", low=1e-4, high=1e-2, log=True)
    proposals = []
    for name, cut in (("whole", False), ("cut", True)):
        study = Study.begin(Workspace(tmp_path), name, pruning=None)
        for value in range(14):  # the last ones are modelled
            number = study.begin_trial(seed=1)
            if cut:
                with path(Workspace(tmp_path), name).open("a") as file:
                    file.write('{"half a li')
                study = Study.begin(Workspace(tmp_path), name, pruning=None)
            proposals.append(study.propose(number, [rate], seed=1))
            study.tell(number, TrialState.COMPLETE, float(value))
    assert proposals[:14] == proposals[14:]


def test_an_epoch_is_reported_once(tmp_path):
    study = Study.begin(Workspace(tmp_path), "search", pruning=None)
    study.begin_trial(seed=None)
    study.report(0, 0.5, 3)
    assert study.report(0, 0.7, 3).intermediate_values == {3: 0.5}


def runs(checkout):
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{checkout / 'mlflow.db'}")
    return client, client.search_runs(["1"], order_by=["attributes.start_time ASC"])


def found(checkout):
    client, covariates = runs(checkout)
    [parent] = [run for run in covariates if "sweep.jobs" in run.data.tags]
    return client, parent, [run for run in covariates if run is not parent]


def test_a_failed_trial_stops_no_other(checkout):
    with (checkout / "src/foretrace/review.py").open("a") as file:
        file.write(FULL)
    rates = "optimizer.lr=0.001,0.002"
    done = train(checkout, *SEARCH, rates, "hydra.sweeper.n_trials=2", cwd=checkout)
    _, parent, children = found(checkout)
    assert (done.returncode, parent.info.status) == (1, "FAILED")
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]
    assert "status=FAILED 2 of 2 trials ended, 1 failed; best" in done.stdout.splitlines()[-1]
    assert "failed   " in done.stderr
    states = {trial.state for trial in Study(checkout, parent.info.run_id).trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}
    assert (checkout / "mlruns/artifacts" / parent.info.run_id / "artifacts/figures/trial.png").exists()


def test_a_hopeless_trial_is_stopped_and_not_judged_on_the_test_part(checkout):
    study = Study.begin(checkout, "search", pruning=space.Pruning(startup_trials=2, warmup=0.5))
    for _ in range(2):
        number = study.begin_trial(seed=None)
        for epoch in range(6):
            study.report(number, 1e-9, epoch)
        study.tell(number, TrialState.COMPLETE, 1e-9)
    number = study.begin_trial(seed=None)
    place = ["sweep.parent=search", f"sweep.trial={number}"]
    done = train(checkout, *SMALL, "trainer.max_epochs=6", *place, cwd=checkout)
    _, [run] = runs(checkout)
    assert (done.returncode, run.info.status, run.data.tags["pruned"]) == (0, "FINISHED", "at epoch 3")
    assert not any(name.startswith("test/") for name in run.data.metrics)
    assert list(Study(checkout, "search").trials[number].intermediate_values) == [0, 1, 2, 3]


def test_a_killed_search_goes_on_with_the_trial_that_it_was_at(checkout):
    arguments = [
        *SEARCH,
        "trainer.max_epochs=40",
        "model.dropout=interval(0,0.5)",
        "hydra.sweeper.n_trials=2",
    ]
    command = [sys.executable, "src/train.py", *arguments]
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(checkout.glob("mlruns/artifacts/*/artifacts/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, parent, [child] = found(checkout)
    done = train(checkout, f"sweep.resume={parent.info.run_id}", cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert f"goes on with run {child.info.run_id}" in done.stdout
    client, parent, children = found(checkout)
    assert {(run.data.tags["sweep.trial"], run.info.status) for run in children} == {
        ("0", "FINISHED"),
        ("1", "FINISHED"),
    }
    assert children[0].info.run_id == child.info.run_id
    assert [p.step for p in client.get_metric_history(child.info.run_id, "val/mse")] == list(range(40))
    record = checkout / "mlruns/artifacts" / parent.info.run_id / "artifacts/sweep.json"
    assert json.loads(json.loads(record.read_text())["notes"]["search"])["n_trials"] == 2
