"""The image as people use it: who it runs as, what it holds, what it leaves in a mounted folder, how it ends.

``make image-check`` builds it and runs these with Docker, or with Podman where there is no Docker.
"""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import ROOT, SMALL, train
from mlflow import MlflowClient
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.image

ENGINE = os.environ.get("FORETRACE_ENGINE", "docker").split()
IMAGE = os.environ.get("FORETRACE_IMAGE", "foretrace")
RUN = [*ENGINE, "run", "--rm", "--network", "none", *os.environ.get("FORETRACE_RUN_ARGS", "").split()]
LONG = [*SMALL, "trainer.max_epochs=100000"]


def engine(*arguments: str) -> str:
    return subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, check=True).stdout


def image(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*RUN, *options, IMAGE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def shell(line: str) -> str:
    return image("-c", line, options=("--entrypoint", "sh")).stdout.strip()


@pytest.fixture
def mounted(checkout) -> tuple[str, ...]:
    """Mounts the folder of runs of a checkout, which anybody may write."""
    (checkout / "mlruns").chmod(0o777)
    return ("--volume", f"{checkout}/mlruns:/app/mlruns")


def only_run(checkout: Path):
    [run] = MlflowClient(f"sqlite:///{checkout}/mlflow.db").search_runs(["1"])
    return run


@contextmanager
def at_work(mounted: tuple[str, ...], *overrides: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A container whose training is under way: its name, and the process that waits for it."""
    name = f"foretrace-{uuid.uuid4().hex[:8]}"
    command = [*RUN, "--name", name, *mounted, IMAGE, *overrides]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while not process.stdout.readline().startswith("device"):
                assert process.poll() is None
            time.sleep(2)
            yield name, process
        finally:
            if process.poll() is None:
                engine("kill", name)


@contextmanager
def ui(checkout: Path) -> Iterator[str]:
    """A bare ``mlflow ui`` in the checkout; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            server.terminate()


def shown(address: str, run_id: str, path: str) -> bytes:
    query = urllib.parse.urlencode({"path": path, "run_uuid": run_id})
    with urllib.request.urlopen(f"{address}/get-artifact?{query}", timeout=30) as answer:
        return bytes(answer.read())


def test_it_holds_what_runs_and_is_nobody_in_particular():
    assert shell("id -u") == "1000"
    held = ".cache README.md conf mlflow.db mlruns pyproject.toml requirements.lock src"
    assert shell("ls -A /app").split() == held.split()
    tools = (
        "import importlib.util as u; print([m for m in ('pytest', 'mypy', 'playwright') if u.find_spec(m)])"
    )
    extras = "import mujoco, onnxruntime, optuna, psycopg2, submitit"
    assert shell(f'python -c "{tools}" && python -c "{extras}" && python -m pip check') == (
        "[]\nNo broken requirements found."
    )
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", shell("echo $FORETRACE_COMMIT"))


def test_its_libraries_are_those_of_the_lock():
    def versions(lines: str) -> dict[str, str]:
        pairs = (line.partition("+")[0].split("==") for line in lines.splitlines() if "==" in line)
        return {canonicalize_name(name): version for name, version in pairs}

    locked, found = (
        versions((ROOT / "requirements.lock").read_text()),
        versions(shell("pip freeze --exclude-editable")),
    )
    of_cuda = ("nvidia-", "cuda-", "triton")  # torch itself says which
    others = {name: v for name, v in found.items() if locked.get(name) != v and not name.startswith(of_cuda)}
    assert others == {}


def test_what_it_wrote_shows_outside_and_what_was_made_outside_serves_in_it(checkout, mounted):
    first = image(*SMALL, options=mounted)
    assert first.returncode == 0, first.stderr
    with ui(checkout) as address:  # before any command outside
        assert b"<html" in shown(address, only_run(checkout).info.run_id, "report.html")
    inside = only_run(checkout).info.run_id
    done = train(checkout, *SMALL, "seed=2")
    outside = re.search("run=([0-9a-f]{32}) status=FINISHED", done.stdout).group(1)
    for run in (inside, outside):
        judged = image("src/evaluate.py", f"run={run}", options=(*mounted, "--entrypoint", "python"))
        assert judged.returncode == 0, judged.stderr
    client = MlflowClient(f"sqlite:///{checkout}/mlflow.db")
    judgements = {run.info.run_id for run in client.search_runs(["1"])} - {inside, outside}
    with ui(checkout) as address:
        assert all(b"<html" in shown(address, run, "report.html") for run in (inside, outside, *judgements))


def test_any_user_can_use_a_named_volume_with_nothing_else_to_write_to():
    volume = f"foretrace-{uuid.uuid4().hex[:8]}"
    user = ("--user", "4242:4242", "--volume", f"{volume}:/app/mlruns")
    try:
        done = image(*SMALL, options=(*user, "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/app/.cache"))
        assert (done.returncode, "status=FINISHED" in done.stdout) == (0, True), done.stderr
    finally:
        engine("volume", "rm", volume)


def test_a_folder_that_its_user_may_not_write_is_one_line(checkout, mounted):
    (checkout / "mlruns").chmod(0o755)
    done = image(*SMALL, options=(*mounted, "--user", "4242:4242"))
    assert done.returncode == 2
    assert re.fullmatch(r"error: mlruns: expected a folder that user 4242 may write, .*\n", done.stderr)


def test_a_stop_ends_with_a_checkpoint_and_another_container_goes_on(checkout, mounted):
    with at_work(mounted, *LONG) as (name, process):
        began = time.monotonic()
        engine("stop", name)
        assert process.wait(30) == 143
        assert time.monotonic() - began < 10  # after which Docker would kill it
    killed = only_run(checkout)
    assert killed.info.status == "KILLED"
    assert (checkout / "mlruns/artifacts" / killed.info.run_id / "artifacts/checkpoints/last.ckpt").is_file()
    with at_work(mounted, "resume=last"):
        went_on = only_run(checkout)
        assert (went_on.info.run_id, went_on.info.status) == (killed.info.run_id, "RUNNING")


def test_a_container_at_work_is_left_alone_and_a_killed_one_is_known_to_be(checkout, mounted):
    def recover() -> str:
        command = [sys.executable, str(checkout / "src" / "runs.py"), "recover"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with at_work(mounted, *LONG) as (name, process):
        assert recover().startswith("0 of dead processes marked")
        beside = image(*SMALL, "tracking.run_name=beside", options=mounted)
        assert beside.returncode == 0, beside.stderr
        runs = MlflowClient(f"sqlite:///{checkout}/mlflow.db").search_runs(["1"])
        assert sorted(run.info.status for run in runs) == ["FINISHED", "RUNNING"]
        engine("kill", name)
        process.wait(30)
    assert "1 of dead processes marked" in recover()


def test_it_ends_at_once_while_it_still_starts(mounted):
    name = f"foretrace-{uuid.uuid4().hex[:8]}"
    command = [*RUN, "--name", name, *mounted, IMAGE, "data.steps=10000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(5)  # it imports libraries
        engine("stop", name)
        assert process.wait(30) == 143
        assert process.stderr.read() == "stopped by SIGTERM\n"
