"""Jobs of a sweep before any begins: one line for what is wrong, and nothing that was typed is dropped."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import SMALL, client, train
from hydra.core.override_parser.overrides_parser import OverridesParser

from foretrace.errors import UserError
from foretrace.sweeps import jobs


def parsed(*overrides):
    return OverridesParser.create().parse_overrides(list(overrides))


@pytest.mark.parametrize("typed", ["seed=range(0)", "seed=range(0,1000000000)", "seed=range(0,inf)"])
def test_number_of_jobs_is_counted_before_they_are_made(typed):
    with pytest.raises(UserError):
        jobs.check_number(parsed(typed))


@pytest.mark.parametrize(
    "typed",
    [
        ["sweep.resume=0a", "optimizer.lr=1"],
        ["sweep.resume=0a", "+optimizer.lr=1"],
        ["sweep.resume=0a", "sweep.trial=1"],
        ["sweep.parent=0a", "seed=1,2"],
        ["sweep={resume: 0a}", "seed=1,2"],
        ["resume=0a", "seed=1,2"],
        ["++resume=0a", "seed=1,2"],
    ],
)
def test_setting_that_would_be_dropped_is_refused(typed):
    with pytest.raises(UserError):
        jobs.sweep_to_resume(typed)


@pytest.mark.parametrize("typed", ["++sweep.resume=0a", "sweep={resume: 0a, parent: null, trial: null}"])
def test_sweep_to_resume_in_another_spelling_is_refused(typed, composed):
    with pytest.raises(UserError, match="by itself"):
        jobs.check([[typed]], lambda job: composed(*job))


pytest.importorskip("optuna")

SEARCH = ["-m", "hydra/sweeper=optuna", *SMALL, "trainer.diagnose_every=null"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "model.dropout=0,1.5"], r"job 2 of 2 \(model.dropout=1.5\): model.dropout: "),
        (["-m", "model.dropuot=0,0.1"], "model.dropout"),
        (["-m", "hydra.sweeper.n_jobs=0", "seed=1,2"], r"hydra\.sweeper\.n_jobs: "),
        ([*SEARCH, "model.dropout=interval(0,1.5)"], r"model\.dropout: "),
        (
            [*SEARCH, "model.dropout=interval(0,0.5)", "hydra.sweeper.n_trials=0"],
            r"hydra\.sweeper\.n_trials: ",
        ),
    ],
)
def test_wrong_sweep_gets_one_line_and_makes_no_run(typed, bare, words, said):
    answer = typed("train", *words)
    [line] = answer.err.splitlines()
    assert answer.status == 2
    assert re.search(said, line), line
    assert not (bare / "mlruns").exists()


@pytest.mark.slow
def test_killed_worker_of_a_search_is_taken_up_again(checkout):
    words = [
        *SEARCH,
        "optimizer.lr=interval(1e-4,1e-2)",
        "hydra.sweeper.n_trials=2",
        "trainer.max_epochs=100",
    ]
    command = [sys.executable, "src/train.py", *words, "hydra.sweeper.n_jobs=2"]
    sweep = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (begun := list(checkout.glob("mlruns/artifacts/*/artifacts/checkpoints/last.ckpt"))):
        assert sweep.poll() is None
        time.sleep(0.05)
    run_id = begun[0].parts[-4]
    os.kill(int(client(checkout).get_run(run_id).data.tags["process.pid"]), signal.SIGKILL)
    out, err = sweep.communicate()
    assert (sweep.returncode, "killed   optimizer.lr=" in err) == (0, True), err
    assert f"resumes run {run_id}" in out
    points = client(checkout).get_metric_history(run_id, "val/mse")
    assert [point.step for point in points] == list(range(100))
    sweep_id = re.findall(r"sweep=(\w+)", out)[-1]
    done = train(checkout, f"sweep.resume={sweep_id}", cwd=checkout)
    assert "2 of 2 jobs done" in done.stdout.splitlines()[-1]
