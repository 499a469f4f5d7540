"""The list of runs, and the pages that show them."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import Trained
from helpers import ROOT, client


def _ui(root: Path, port: int) -> subprocess.Popen[str]:
    # A browser that is there on every machine, and opens nothing.
    env = os.environ | {"FORETRACE_HOME": str(root), "BROWSER": "true"}
    words = [sys.executable, str(ROOT / "src" / "runs.py"), "ui", "--port", str(port)]
    return subprocess.Popen(
        words, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # A shell that runs the tests in the background has them ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@pytest.mark.slow
def test_ui_serves_the_table_of_runs_until_interrupted(trained: Trained) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _ui(trained.root, port) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("http"))
        try:
            assert f":{port}/#/experiments/1/runs?workflowType=machine_learning" in address
            page = urlopen(f"http://127.0.0.1:{port}/", timeout=30).read()
        finally:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl+C does
    assert b"MLflow" in page
    assert process.returncode == 130
    assert client(trained.root).get_run(trained.run_ids[0]).info.status == "FINISHED"


def test_ui_at_a_port_of_another_program_is_refused(trained: Trained) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = _ui(trained.root, other.getsockname()[1])
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("error: --port: ")
    assert said.count("\n") == 1
