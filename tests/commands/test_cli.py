"""The real command, as people type it, in a checkout of its own."""

import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest
from helpers import SMALL, client, only_run, train

from foretrace.commands import cli


def files(folder) -> set[str]:
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_command_in_another_directory_leaves_nothing_but_the_run(checkout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = files(checkout)
    done = train(checkout, *SMALL, "trainer.progress=true", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    run = only_run(checkout)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"run={run.info.run_id} status=FINISHED test/mse=")
    assert "skill=" in last
    assert "Warning" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "epoch" in line.lower()]
    assert [line.partition(":")[0] for line in lines] == [
        "epoch 1/1, batch 1/2"
    ]  # in 30 s; there is no terminal
    assert list(elsewhere.iterdir()) == []
    left = {path for path in files(checkout) - before if not path.startswith((".cache", "mlruns/"))}
    assert left == set()
    bare_ui = mlflow.MlflowClient(tracking_uri=f"sqlite:///{(checkout / 'mlflow.db').resolve()}")
    assert len(bare_ui.search_runs(["1"])) == 1  # `mlflow ui` reads ./mlflow.db of where it is started


@pytest.mark.slow
def test_first_runs_at_once_do_not_collide(checkout):
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda seed: train(checkout, *SMALL, f"seed={seed}", cwd=checkout), (1, 2, 3)))
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    found = client(checkout).search_runs(["1"])
    assert {run.info.status for run in found} == {"FINISHED"}
    losses = [client(checkout).get_metric_history(run.info.run_id, "MSE train loss") for run in found]
    assert [len(points) for points in losses] == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_run_told_to_stop_is_killed(checkout, number, status):
    command = [sys.executable, "src/train.py", *SMALL, "trainer.max_epochs=100000"]
    process = subprocess.Popen(
        command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while "device" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    run = only_run(checkout)
    assert run.info.status == "KILLED"


WRONG = {
    "trainer.max_epoch=5": "trainer.max_epoch: unknown setting. Did you mean trainer.max_epochs",
    "data=halfchetah": "data: no option 'halfchetah'. Did you mean halfcheetah",
    "scheduler=3": "after GROUP= comes the name of an option",
    "trainer.max_epochs": "trainer.max_epochs",
    "data.window=[": r"cannot read 'data.window=\['. Write KEY=VALUE",
    "optimizer.name=Adem": "optimizer.name: .*Did you mean Adam",
    "data.inputs=[a]": "data.inputs: has a new name. Use data.covariates",
    "trainer.early_stopping.patience=3": "trainer.early_stopping is null by default. Set the whole of it",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_command_gets_one_line_and_makes_nothing(typed, bare, override):
    answer = typed("train", override)
    assert answer.status == 2
    [line] = answer.err.splitlines()
    assert re.search(WRONG[override], line), line
    assert list(bare.iterdir()) == []


def test_file_that_is_not_there_gets_one_line(typed, bare):
    answer = typed("train", "data=files", "data.path=nothing/*.csv")
    assert (answer.status, len(answer.err.splitlines())) == (2, 1)
    assert "data.path" in answer.err
    assert list(bare.iterdir()) == []


def test_help_lists_what_can_be_chosen(typed):
    answer = typed("train", "--help")
    assert answer.status == 0
    for text in ("data: files, halfcheetah", "Examples:", "max_epochs: 50"):
        assert text in answer.out


def test_sigterm_is_obeyed_from_the_first_moment_as_process_1_too(as_a_command, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sys.argv", ["src/predict.py"])
    assert cli.call(lambda: signal.raise_signal(signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"
    signal.signal(signal.SIGTERM, before)


def test_the_shell_completes_commands_and_settings(as_a_command, monkeypatch, capsys):
    def complete(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setattr("sys.argv", ["foretrace", "-sc", "query=bash"])
        assert cli.main() == 0
        return capsys.readouterr().out.split()

    assert complete("foretrace tr") == [*cli.COMMANDS, "runs", "ui"]
    assert complete("foretrace train seed=2 data=half") == ["data=halfcheetah", "data=halfcheetah_ltc"]
