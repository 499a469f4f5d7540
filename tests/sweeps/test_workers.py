"""Jobs at work: places that become free are filled at once, and what is killed takes no other along."""

import os
import random
import sys
import time

import pytest
from omegaconf import OmegaConf

from foretrace.errors import UserError
from foretrace.sweeps.workers import count_places, starter, work_off

BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 3}
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}


def start_with(code, *, places=1, launcher=BASIC):
    return starter(OmegaConf.create(launcher), places=places, command=[sys.executable, "-Sc", code])


def all_of(start, tasks, *, places):
    """Does all tasks; returns each with its exit status, in the order in which they ended."""
    left, ended = list(reversed(tasks)), []
    propose = lambda: left.pop() if left else None  # noqa: E731
    work_off(propose, start, lambda *end: ended.append(end), places=places)
    return ended


@pytest.mark.slow
def test_16_jobs_of_unequal_length_on_2_places_take_at_most_1_15_of_the_ideal():
    lengths = [0.2 * n for n in range(1, 17)]
    random.Random(3).shuffle(lengths)
    start = starter(OmegaConf.create(BASIC), places=2, command=["sleep"])
    began = time.monotonic()
    ended = all_of(lambda length: start([str(length)]), lengths, places=2)
    assert len(ended) == 16
    assert time.monotonic() - began <= 1.15 * sum(lengths) / 2


def test_killed_job_takes_no_other_along():
    start = start_with(
        "import os, sys, time; time.sleep(0.3); os.kill(os.getpid(), int(sys.argv[1]))", places=2
    )
    ended = all_of(lambda number: start([number]), ["9", "0"], places=2)
    assert sorted(ended) == [("0", 0), ("9", -9)]


def test_jobs_at_work_are_asked_to_end_when_the_sweep_is(tmp_path):
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: (open(sys.argv[1], 'w'), sys.exit(0)))\n"
    start = start_with(code + "open(sys.argv[1] + '.begun', 'w')\ntime.sleep(60)")

    def propose():
        while not (tmp_path / "end.begun").exists():
            if not asked:
                asked.append("once")
                return str(tmp_path / "end")
            time.sleep(0.01)
        raise KeyboardInterrupt

    asked = []
    with pytest.raises(KeyboardInterrupt):
        work_off(propose, lambda path: start([path]), lambda *_: None, places=2)
    assert (tmp_path / "end").exists()


def test_jobs_share_the_cores_and_know_the_store(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    told = "' '.join(os.environ[name] for name in ('OMP_NUM_THREADS', 'MLFLOW_TRACKING_URI'))"
    start = start_with(f"import os, sys; open(sys.argv[1], 'w').write({told})", places=2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")  # as the sweep does when it begins
    assert all_of(lambda path: start([path]), [str(tmp_path / "told")], places=1)[0][1] == 0
    assert (tmp_path / "told").read_text() == f"{max(1, os.cpu_count() // 2)} http://host"


@pytest.mark.parametrize(
    ("launcher", "asked", "places"),
    [
        (BASIC, None, 1),
        (BASIC, 4, 4),
        (JOBLIB, None, 3),
        (JOBLIB, 2, 2),
        (SLURM | {"array_parallelism": 8}, None, 8),
    ],
)
def test_places_are_as_many_as_asked_for(launcher, asked, places):
    assert count_places(OmegaConf.create(launcher), asked) == places


@pytest.mark.parametrize(
    ("launcher", "asked"), [(BASIC, 0), (BASIC, "x"), (BASIC, True), (JOBLIB | {"n_jobs": 0}, None), ({}, 1)]
)
def test_wrong_number_of_places_is_refused(launcher, asked):
    with pytest.raises(UserError):
        count_places(OmegaConf.create(launcher), asked)


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["by itself", "by SIGTERM"])
def test_submitit_runs_a_job_that_hears_signals(tmp_path, ends):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = {"_target_": "a.LocalLauncher", "submitit_folder": str(tmp_path / "%j"), "timeout_min": 1}
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: (open(sys.argv[1], 'w').write('term'), sys.exit(0)))"
    code += "\nopen(sys.argv[1], 'w').write('begun')\ntime.sleep(float(sys.argv[2]))"
    worker = start_with(code, launcher=launcher)(
        [str(tmp_path / "said"), "0" if ends == "by itself" else "60"]
    )
    while not (tmp_path / "said").exists() or not (tmp_path / "said").read_text():
        time.sleep(0.1)
    if ends == "by SIGTERM":
        worker.terminate()
    while worker.poll() is None:
        time.sleep(0.1)
    assert (tmp_path / "said").read_text() == ("begun" if ends == "by itself" else "term")
