"""Runs in the store whose records somebody has tampered with: nothing of them is obeyed."""

import json
import os

import pytest
import yaml
from stored import CHECKPOINT, CONFIG, SWEEP, Begun, Runs, good
from trained import refused

from foretrace.commands import runs as runs_command
from foretrace.errors import is_plain
from foretrace.tracking.recovery import Process

CALL = "!!python/object/apply:os.system ['touch trap']"
LAUGHS = "a: &a [x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
TEXTS = {
    "nothing": "", "blank": " \n\n", "null": "null", "a number": "5", "a text": "hello", "a list": "[1, 2]",
    "no YAML": "a: [", "a tab": "a:\n\t- b", "two documents": "a: 1\n---\nb: 2", "NUL": "seed: 1\0",
    "an escape": "\x1b", "a picture": b"\x89PNG\r\n\x1a\n\0\0",
    "another encoding": "tags: {a: é}".encode("latin-1"), "UTF-16": "seed: 1".encode("utf-16"),
    "numbers for names": "1: 2", "a list for a name": "? [a]\n: b", "50 MB": b"# " + b"x" * 50_000_000,
    "a call": f"seed: {CALL}", "a call at the top": CALL, "a call in a list": f"model: {{hidden_sizes: [{CALL}]}}",
    "a call in an unknown place": f"z: {{y: [{CALL}]}}",
    "a new object": "seed: !!python/object/new:os.system ['touch trap']", "a module": "seed: !!python/module:os",
    "a name": "seed: !!python/name:os.system", "a tag of its own": "seed: !mine 5",
    "binary": "seed: !!binary aGk=",
    "a tag by another name": "%TAG !p! tag:yaml.org,2002:python/\n---\nseed: !p!object/apply:os.system [touch trap]",
    "a reference": "a: &a 1\nb: *a", "itself": "a: &a [*a]", "a merge": "a: &a {b: 1}\nc: {<<: *a}",
    "laughs": LAUGHS, "brackets": "[" * 500_000, "dashes": "- " * 500_000, "questions": "? " * 400_000,
    "a time of a million parts": "seed: " + "1:" * 400_000 + "1", "a million digits": "seed: " + "9" * 900_000,
    "an open quote": "a: '" + "x" * 900_000, "many numbers": "a: [" + "1," * 500_000 + "]",
}  # fmt: skip
SETTINGS = {
    "a target in data": {"data___target_": "os.system"},
    "a target in the model": {"model": {"_target_": "os.system", "command": "touch trap"}},
    "a target in the optimiser": {"optimizer___target_": "os.system"},
    "a target in the schedule": {"scheduler": {"name": "StepLR", "interval": "epoch", "_target_": "os.system"}},
    "a target in the trainer": {"trainer": {"_target_": "os.system", "max_epochs": 1}},
    "a target in a list": {"model__hidden_sizes": [{"_target_": "os.system"}]},
    "a variable": {"tracking__run_name": "${oc.env:HOME}"},
    "a variable in a list": {"model__frozen": ["${oc.env:HOME}"]},
    "a variable as a name": {"tracking__tags": {"${oc.env:HOME}": "x"}}, "Hydra's": {"seed": "${hydra:job.num}"},
    "a decoder": {"seed": "${oc.decode:'5'}"}, "another setting": {"seed": "${trainer.max_epochs}"},
    "a file": {"tracking__run_name": "${oc.create:${oc.env:HOME}}"},
    "half a variable": {"tracking__run_name": "${"}, "nothing given": {"seed": "???"},
    "a text for a seed": {"seed": "x"}, "a true seed": {"seed": True}, "an endless seed": {"seed": 10**40},
    "NaN": {"model__dropout": float("nan")}, "no model": {"model": None}, "a text for a model": {"model": "big"},
    "a list for data": {"data": [1]}, "data from Mars": {"data__source": "mars"},
    "a data set of a list": {"data__source": ["files"]}, "an unknown setting of the model": {"model__new": 1},
    "an optimiser from elsewhere": {"optimizer__name": "os.system"},
    "no optimiser": {"optimizer__name": "__class__"}, "a class of no optimiser": {"optimizer__name": "Optimizer"},
    "an argument too many": {"optimizer__foo": 1}, "no epochs": {"trainer": {}},
    "epochs of text": {"trainer__max_epochs": "5"}, "no trainer": {"trainer": 5},
    "a number of layers": {"model__hidden_sizes": 8}, "a layer of 1e9": {"model__hidden_sizes": [10**9]},
    "tags of lists": {"tracking__tags": {"a": [1]}}, "a device for data": {"data__path": "/dev/zero"},
    "code for a path": {"data__path": "$(touch trap)"}, "many features": {"data__features": ["xxxx"] * 30_000},
    "a loss of text": {"loss": "mse"}, "an evaluation of text": {"evaluation__horizon": "x"},
}  # fmt: skip


@pytest.fixture(scope="module")
def stored_runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("records"))


@pytest.fixture
def runs(stored_runs, monkeypatch):
    """Sends the commands of this process to them, and ends them where a run begins."""

    def begin(*_, **__):
        raise Begun

    monkeypatch.setenv("FORETRACE_HOME", str(stored_runs.root))
    monkeypatch.setattr("foretrace.tracking.store.create_run", begin)
    monkeypatch.setattr("foretrace.tracking.run.TrackedRun.__enter__", begin)
    monkeypatch.chdir(stored_runs.root)
    return stored_runs


@pytest.fixture
def refuse(runs, capfd):
    """How a command refuses a run: in one line, and nothing is made, also by what it would have executed."""

    def refuse(command, run_id):
        before = runs.made_by()
        said = refused(run_id, lambda one: runs.ask(command, one))
        assert capfd.readouterr().err == ""
        assert runs.made_by() == before
        return said

    return refuse


def test_the_trap_would_spring(runs):
    yaml.unsafe_load(CALL)
    (runs.root / "trap").unlink()


@pytest.mark.parametrize("command", ["rerun", "resume", "evaluate"])
def test_a_plain_record_is_taken(runs, command):
    with pytest.raises(Begun):
        runs.ask(command, runs.add(good(runs)))


@pytest.mark.parametrize("case", TEXTS)
def test_settings_that_are_not_plain_are_refused(runs, refuse, case):
    assert refuse("rerun", runs.add({CONFIG: TEXTS[case]}))


def test_a_setting_that_there_is_not_any_more_is_left_out(runs):
    with pytest.raises(Begun):
        runs.ask("rerun", runs.add(good(runs, _target_="os.system")))


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_are_none_are_refused(runs, refuse, case):
    assert refuse("rerun", runs.add(good(runs, **SETTINGS[case])))


@pytest.mark.parametrize("command", ["resume", "evaluate", "export"])
@pytest.mark.parametrize("case", ["a call", "laughs", "50 MB", "nothing", "a name"])
def test_every_command_refuses_such_settings(runs, refuse, command, case):
    assert refuse(command, runs.add(good(runs) | {CONFIG: TEXTS[case]}))


PLACES = {
    "nothing": lambda path: None, "a folder": lambda path: path.mkdir(), "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path), "a device": lambda path: path.symlink_to("/dev/zero"),
    "a secret": lambda path: path.symlink_to("/etc/shadow"),
    "a process": lambda path: path.symlink_to("/proc/self/mem"),
}  # fmt: skip
READ = {"rerun": CONFIG, "resume": CONFIG, "sweep.resume": SWEEP, "compare": "evaluation.npz"}
READ |= dict.fromkeys(["evaluate", "predict", "export"], CHECKPOINT)


@pytest.mark.parametrize("command", READ)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_of_the_run_is_not_read(runs, refuse, command, place):
    run_id = runs.add({"other.txt": "x", "checkpoints/other.txt": "x"}, {"sweep.jobs": "begun"})
    PLACES[place](runs.folder(run_id) / READ[command])
    assert "root:" not in refuse(command, run_id)


LOCATIONS = [
    "", "/", "..", "nowhere", "file:///nowhere", "file:///etc", "file:////dev", "file://host/x", "file:", "://",
    "http://127.0.0.1:1/x", "mlflow-artifacts:/x", "mlflow-artifacts://127.0.0.1:1/x", "s3://a/b",
    "ftp://127.0.0.1/x", "sftp://127.0.0.1/x", "hdfs://x/y", "dbfs:/x", "gs://a/b", "runs:/x/y", "models:/x/1",
    "what://x", "a\0b", "file:///%00", "file:///" + "x" * 300, "file:///" + "x/" * 9000, "http://[::1", "\x1b[31m",
    "r2://x", "abfss://x",
]  # fmt: skip


@pytest.mark.parametrize("command", ["rerun", "predict"])
@pytest.mark.parametrize("location", LOCATIONS, ids=lambda one: ascii(one)[1:30])
def test_artifacts_that_are_elsewhere_are_not_found(runs, refuse, command, location):
    run_id = runs.add(good(runs))
    runs.locate(run_id, location)
    assert refuse(command, run_id)


NAMES = {
    "quotes": "a' OR '1'='1", "a path": "../../etc", "a root": "/etc/passwd", "a part": "a/b", "nothing": " ",
    "NUL": "a\0b", "long": "a" * 100_000, "an escape": "\x1b[31m", "lines": "a\nb", "a variable": "${oc.env:HOME}",
    "a pattern": "*", "another's": "0" * 32, "a letter": "é" * 32, "per cent": "%2e%2e%2f", "options": "--help",
    "a query": "a?b#c", "dots": "..", "digits of elsewhere": "١" * 32, "a half": "\ud800",
}  # fmt: skip


@pytest.mark.parametrize("command", READ)
@pytest.mark.parametrize("case", NAMES)
def test_what_is_no_id_is_not_looked_for(refuse, command, case):
    assert refuse(command, NAMES[case])


@pytest.mark.parametrize("command", READ)
def test_a_deleted_run_and_one_of_another_tool(runs, refuse, command):
    run_id = runs.add(good(runs), {"sweep.jobs": "begun"})
    runs.client.delete_run(run_id)
    assert "was deleted" in refuse(command, run_id)
    assert refuse(command, runs.add({"weights.h5": "x"}))


def test_a_name_does_not_rewrite_the_list_of_runs(runs):
    run_id = runs.add(tags={"mlflow.runName": "a\x1b[2J\nb\u202e", "progress": "\x1b[31m" * 9})
    line = runs_command.line(runs.client.get_run(run_id), now_ms=0)
    assert all(map(is_plain, line))
    assert len(line) < 200


PROCESS = Process.this().tags()
LIES = {
    "NUL": {"pid": "1\0"}, "a path": {"pid": "../../etc"}, "a long path": {"pid": "x" * 5000},
    "itself": {"pid": "self/../1"}, "a file": {"pid": "../dev/zero"}, "no number": {"pid": "x"},
    "below zero": {"pid": "-1"}, "nothing": dict.fromkeys(Process._fields, ""),
    "an escape": dict.fromkeys(Process._fields, "\x1b[31m"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_process_that_is_none_is_not_at_work(runs, case):
    lie = {f"process.{name}": value for name, value in LIES[case].items()}
    with pytest.raises(Begun):
        runs.ask("resume", runs.add(good(runs), PROCESS | lie, ended=False))


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
@pytest.mark.parametrize("best", ["../../x", "nope", "", "\x1b[31m", "\0", "a" * 4000, "0" * 32])
def test_a_best_child_that_is_none(runs, refuse, command, best):
    assert refuse(command, runs.add({}, {"best_child": best}))


JOB = "seed=1"
SWEEPS = {
    "nothing": "", "no JSON": "{", "a list": "[]", "no jobs": "{}", "a number": json.dumps({"jobs": 5}),
    "a job of text": json.dumps({"jobs": [JOB]}), "a search without a plan": json.dumps({"jobs": None}),
    "a plan of a number": json.dumps({"search": 5}), "brackets": "[" * 1_000_000,
    "a search of version 0.1": json.dumps({"jobs": None, "notes": {"search": "{}"}}),
    "20 MB": "[" + "0," * 10_000_000 + "0]", "many lists": "[" + "[]," * 5_000_000 + "[]]",
    "a picture": b"\x89PNG\r\n\x1a\n\0\0", "a million digits": '{"jobs": ' + "9" * 1_000_000 + "}",
    "NaN": '{"jobs": NaN}',
}  # fmt: skip
JOBS = [
    5, None, {}, ["seed=1"], "", "=", "hydra.run.dir=/", "+hydra.run.dir=/", "~hydra", "hydra/launcher=joblib",
    "hydra={a: 1}", "hydra.launcher._target_=os.system", "+hydra.callbacks.a._target_=os.system",
    "++hydra.sweep.dir=/", "+++hydra.x=1", "optimizer._target_=os.system", "+optimizer={_target_: os.system}",
    "model={_target_: os.system}", "_target_=os.system", "tracking.run_name=${oc.env:HOME}",
    "tracking.run_name=$\\{oc.env:HOME\\}", "tracking.run_name=$\\\\{oc.env:HOME\\}",
    "tracking={uri: http://127.0.0.1:1}", "++tracking={uri: x}", "+model@hydra.launcher=stacked_lstm",
    "sweep={parent: x}", "data@_global_=files", "experiment=../../x", "experiment='../../x'", "experiment=[../x]",
    "data/../hydra/launcher=joblib", "--config-dir=/", "-m", "--multirun", "se ed=1", "seed\n=1", "\0seed=1",
    "./seed=1", "@seed=1",
]  # fmt: skip


@pytest.mark.parametrize("case", SWEEPS)
def test_a_sweep_that_is_none(runs, refuse, case):
    assert refuse("sweep.resume", runs.add({SWEEP: SWEEPS[case]}, {"sweep.jobs": "begun"}))


@pytest.mark.parametrize("job", JOBS, ids=lambda one: ascii(one)[1:40])
def test_a_job_that_is_more_than_settings(runs, refuse, job):
    record = json.dumps({"jobs": [[JOB], [JOB, job]]})
    assert refuse("sweep.resume", runs.add({SWEEP: record}, {"sweep.jobs": "begun"}))


PLAN = {"overrides": ["seed=1,2"], "n_trials": 2, "seed": 1, "pruning": None}
PLANS = {
    "a target": {"overrides": ["hydra.launcher._target_=a,b"]},
    "a variable": {"overrides": ["seed=$\\{oc.env:HOME\\},1"]},
    "a key": {"overrides": ["hydra.verbose=interval(0,1)"]}, "no choice": {"overrides": ["seed=1"]},
    "a range backwards": {"overrides": ["optimizer.lr=interval(1,0.1)"]},
    "a range of NaN": {"overrides": ["optimizer.lr=interval(nan,1)"]},
    "a logarithm of zero": {"overrides": ["optimizer.lr=tag(log,interval(0,1))"]},
    "no step": {"overrides": ["seed=range(0,9,0)"]}, "no end": {"overrides": ["seed=range(0,1000000000)"]},
    "no overrides": {"overrides": []},
    "overrides of text": {"overrides": "seed"}, "no trials": {"n_trials": 0}, "trials of text": {"n_trials": "x"},
    "more": {"_target_": "os.system"},
}  # fmt: skip


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_of_a_search_that_is_none(runs, refuse, case):
    record = json.dumps({"search": PLAN | PLANS[case]})
    assert refuse("sweep.resume", runs.add({SWEEP: record}, {"sweep.jobs": "begun"}))


def test_a_plain_sweep_and_a_plain_search_are_taken(runs):
    for record in ({"jobs": [[JOB], ["data.path=../rows.csv"]], "notes": {}}, {"search": PLAN}):
        run_id = runs.add({SWEEP: json.dumps(record)}, {"sweep.jobs": "begun"})
        with pytest.raises(Begun):
            runs.ask("sweep.resume", run_id)


CHILDREN = [
    {"sweep.job": "{"}, {"sweep.job": "5"}, {"sweep.job": "[5]"}, {"sweep.job": '[["seed=1"]]'},
    {"sweep.job": '{"a": 1}'}, {"sweep.job": "[]", "sweep.trial": "x"}, {"sweep.job": "[" * 7000},
]  # fmt: skip


@pytest.mark.parametrize("tags", CHILDREN, ids=str)
def test_a_child_whose_job_is_none(runs, refuse, tags):
    record = json.dumps({"search": PLAN})
    parent = runs.add({SWEEP: record}, {"sweep.jobs": "begun"})
    runs.add({}, tags | {"mlflow.parentRunId": parent})
    assert refuse("sweep.resume", parent)
