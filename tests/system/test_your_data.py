"""The page for newcomers, as one reads it: each of its blocks is run in order, and says what the page says."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import pytest
from helpers import ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVERS = {"mlflow ui": "5000", "mlflow models serve": "5001"}  # and their ports on the page
NUMBER = re.compile(r"-?\b(?:[0-9a-f]{32}|\d[\d.]*(?:e[-+]?\d+)?)")


class Reader:
    """Someone who types what the page says, in a fresh checkout."""

    def __init__(self, checkout: Path) -> None:
        self.checkout, self.said, self.servers = checkout, "", list[subprocess.Popen[bytes]]()
        self.ports = {on_page: free_port() for on_page in SERVERS.values()}
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(checkout / "src"),
            "MLFLOW_PORT": self.ports["5000"],
            "MLFLOW_WORKERS": "1",  # of four, each imports everything
            "COLUMNS": "1000",  # tables as on the page, whatever the terminal of the tests
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)

    def run(self, language: str, code: str, *, fails: bool) -> None:
        """Types one block; what is to be filled in is what the last commands said."""
        for name, word in (("<sweep>", "sweep"), ("<id>", "run")):
            if name in code:
                code = code.replace(name, re.findall(rf"^{word}=(\w+)", self.said, re.MULTILINE)[-1])
        is_server = any(server in code for server in SERVERS)
        if not is_server and "5001" in code:
            self.wait_for("5001")
        code = code.replace("5001", self.ports["5001"])
        arguments = ["bash", "-ec", code] if language == "bash" else [sys.executable, "-c", code]
        if is_server:
            self.serve(arguments)
            return
        done = subprocess.run(
            arguments, cwd=self.checkout, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == (2 if fails else 0), f"{code}\n{done.stdout}\n{done.stderr}"
        self.said += done.stdout + done.stderr

    def serve(self, arguments: list[str]) -> None:
        """Starts a server, which takes seconds."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        self.servers.append(subprocess.Popen(arguments, cwd=self.checkout, env=self.environment, **quiet))

    def wait_for(self, on_page: str) -> None:
        """Waits until a server answers."""
        until = time.monotonic() + 120
        while True:
            try:
                urlopen(f"http://127.0.0.1:{self.ports[on_page]}/health").close()
                return
            except OSError:
                assert all(server.poll() is None for server in self.servers)
                assert time.monotonic() < until
                time.sleep(0.2)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def without_figures(line: str) -> str:
    """Figures differ between machines, words do not."""
    return " ".join(NUMBER.sub("#", line).split())


@pytest.fixture
def reader(checkout) -> Iterator[Reader]:
    reader = Reader(checkout)
    yield reader
    for server in reader.servers:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.mark.slow
def test_the_page_for_newcomers_is_true(reader):
    blocks = BLOCK.findall((ROOT / "docs" / "your_data.md").read_text())
    for number, (language, text) in enumerate(blocks):
        if language:
            before, answer = len(reader.said), (blocks[number + 1 :] or [("", "")])[0]
            reader.run(language, text, fails=answer[0] == "" and answer[1].startswith("error:"))
            continue
        heard = [without_figures(line) for line in reader.said[before:].splitlines()]
        for line in text.splitlines():
            exact = line in reader.said[before:].splitlines()
            assert exact if line.startswith("error:") else without_figures(line) in heard, line
    reader.wait_for("5000")
    forecast = pd.read_csv(reader.checkout / "forecast.csv")
    assert list(forecast["step"]) == list(range(100, 160))
    assert (reader.checkout / "tanks.onnx").stat().st_size > 10_000
    assert forecast[["upper", "lower"]].iloc[-1].tolist() == pytest.approx([1.23, 1.13], abs=0.1)
