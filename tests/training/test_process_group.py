"""Several processes train as one does: the same losses, one run, cut and resumed, ended together."""

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import client, cut, history, newest, numbered, only_run, same_end
from hypothesis import given
from hypothesis import strategies as st

from foretrace.commands import train as train_command
from foretrace.data.windows import WindowLoader, Windows
from foretrace.errors import Interrupted, UserError
from foretrace.training.module import TRAIN_LOSS, Forecaster
from foretrace.workspace import Workspace

# 28 training windows in batches of 9: parts are uneven, and the last batch leaves nothing for the second process.
SMALL = [
    "data=files",
    "data.window=10",
    "data.stride=10",
    "data.batch_size=9",
    "model.hidden_sizes=[8,8]",
    "trainer.max_epochs=3",
    "trainer.progress=false",
    "evaluation={warmup: 8, horizon: 10}",
]
INTERFERING = [
    "trainer.gradient_clip=0.05",
    "trainer.ema_decay=0.9",
    "trainer.early_stopping={patience: 1, min_delta: 10}",
    "loss.open_loop={weight: 1, horizon: 3, growth_epochs: 2}",
    "data.random_offset=true",
]
RANDOM = ["model.dropout=0.2", "loss.input_noise=0.1"]
# A program as people write them, without the time that an evaluation takes.
PROGRAM = """
import sys
from hydra import compose, initialize_config_dir
from foretrace.commands import train
from foretrace.workspace import Workspace
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    config = compose("train", overrides=sys.argv[2:])
train.run(config, overrides=sys.argv[2:], workspace=Workspace.default(), evaluate=False)
"""


@pytest.fixture
def recordings(tmp_path) -> str:
    times = np.arange(50.0)
    for number in range(10):
        np.save(tmp_path / f"{number}.npy", np.stack([np.sin(times / 5 + number), np.cos(times / 7)], axis=1))
    return f"data.path={tmp_path}/*.npy"


@pytest.fixture
def train(composed, here, recordings):
    def run(*overrides: str) -> dict[str, float]:
        asked = list(overrides) if "resume" in "".join(overrides) else [*SMALL, recordings, *overrides]
        return train_command.run(composed(*asked), overrides=asked, workspace=Workspace(here), evaluate=False)

    return run


@given(st.integers(1, 9), st.integers(1, 5))
def test_the_parts_of_a_batch_make_the_batch(batch_size, processes):
    windows = Windows(numbered([50, 33]), length=5, stride=5)
    whole = WindowLoader(windows, batch_size=batch_size, seed=1)
    parts = [
        WindowLoader(windows, batch_size=batch_size, seed=1, shard=(r, processes)) for r in range(processes)
    ]
    for batch, *shares in zip(whole, *parts, strict=True):
        counted = [share.values for share in shares if share.weight]
        torch.testing.assert_close(torch.cat(counted), batch.values)
        weighted = sum(share.weight * share.values.mean() for share in shares) / processes
        torch.testing.assert_close(weighted, batch.values.mean())


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_in_one_run(train, here):
    one, two = train(*INTERFERING), train(*INTERFERING, "trainer.devices=2")
    assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    second, first = client(here).search_runs(["1"])
    assert second.data.tags["processes"] == "2"
    found, expected = (history(here, run.info.run_id) for run in (second, first))
    for name in (TRAIN_LOSS, f"{TRAIN_LOSS}/epoch", "val/mse", "val/l1", "lr"):
        assert found[name] == [(step, pytest.approx(value, rel=1e-4)) for step, value in expected[name]]
    assert not [path for path in (here / "mlruns" / "staging").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_what_was_cut_is_resumed_as_if_it_had_not_been(train, here, monkeypatch):
    whole = train(*RANDOM, "trainer.devices=2")
    with monkeypatch.context() as patch:
        cut(patch, at_step=5)
        with pytest.raises(Interrupted):
            train(*RANDOM, "trainer.devices=2")
    second, first = (run.info for run in client(here).search_runs(["1"]))
    assert second.status == "KILLED"
    assert train(f"resume={second.run_id}") == whole
    assert same_end(here, first.run_id, second.run_id)


@pytest.mark.slow
def test_a_process_that_is_gone_ends_the_run_which_is_resumed_in_one(train, here, monkeypatch):
    step = Forecaster.training_step

    def training_step(self, batch, batch_index):
        if self.global_step == 5:
            [worker] = multiprocessing.active_children()
            worker.kill()
        return step(self, batch, batch_index)

    whole = train()
    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, "training_step", training_step)
        with pytest.raises(ChildProcessError, match="process 2 of 2 was ended by SIGKILL"):
            train("trainer.devices=2")
    assert newest(here).info.status == "FAILED"
    resumed = train(f"resume={newest(here).info.run_id}", "trainer.devices=1")
    assert resumed == pytest.approx(whole, rel=1e-4, abs=1e-5)


def test_more_processes_than_windows_are_refused(train, here):
    with pytest.raises(UserError, match=r"data\.batch_size"):
        train("trainer.devices=10")
    assert not (here / "mlruns").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_processes_that_somebody_else_started_make_one_run(checkout, recordings, launcher):
    program = checkout / "src" / "program.py"
    program.write_text(PROGRAM)
    arguments = [str(program), str(checkout / "conf"), *SMALL, recordings]
    if launcher == "torchrun":
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
        said = [_start(command, checkout).communicate()[0]]
    else:  # what SLURM tells each task of a step
        step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODELIST": "127.0.0.1"}
        step["MASTER_PORT"] = str(_free_port())
        tasks = [{**step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
        said = [one.communicate()[0] for one in [_start(arguments, checkout, **task) for task in tasks]]
    assert "".join(said).count("status=FINISHED") == 1
    run = only_run(checkout)
    assert (run.info.status, run.data.tags["processes"]) == ("FINISHED", "2")
    assert len(history(checkout, run.info.run_id)[TRAIN_LOSS]) == 12


@pytest.mark.slow
def test_a_sweep_in_several_processes_is_refused_once(checkout):
    command, place = (
        [str(checkout / "src" / "train.py"), "-m", "seed=1,2"],
        {"WORLD_SIZE": "2", "MASTER_ADDR": "x"},
    )
    started = [_start(command, checkout, RANK=rank, **place) for rank in "01"]
    said = [one.communicate()[0] for one in started]
    assert [one.returncode for one in started] == [2, 2]
    assert [len(output.splitlines()) for output in said] == [1, 0]


def _start(arguments: list[str], folder: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
