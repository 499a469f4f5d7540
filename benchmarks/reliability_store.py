"""Several first runs at once on one new database, and a tracking server that goes away."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from reliability_checkout import SMALL, Checkout, Command, Histories, temporary_folder
from reliability_cost import recording_cost

AT_ONCE = (*SMALL, "trainer.max_epochs=100")
LONG = (
    *SMALL,
    "data.episodes=48",
    "model.hidden_sizes=[128,128]",
    "trainer.max_epochs=150",
)  # a minute or more
BATCHES = 4  # in an epoch


def first_runs(*, processes: int = 4) -> dict[str, object]:
    """Start processes at once in a checkout that has no database yet, each logging every batch."""
    with temporary_folder() as folder:
        checkout = Checkout(folder / "checkout")
        commands = [checkout.start(*AT_ONCE) for _ in range(processes)]
        statuses = [command.end() for command in commands]
        runs = checkout.runs()
        points = [len(checkout.histories(run.info.run_id)["MSE train loss"]) for run in runs]
        alone = checkout.start(*AT_ONCE)
        assert alone.end() == 0, alone.lines
        expected = checkout.histories(checkout.runs()[0].info.run_id)
        differ = sum(checkout.histories(run.info.run_id) != expected for run in runs)
    return {
        "exit statuses": statuses,
        "runs by status": dict(Counter(run.info.status for run in runs)),
        "batches trained in each": 100 * BATCHES,
        "points of the batches' loss in each": points,
        "runs whose points are not those of one alone": differ,
    } | recording_cost()


def outage() -> dict[str, object]:
    """Stop a server twice for ten seconds, and keep one away until after the training."""
    with temporary_folder() as folder:
        local = Checkout(folder / "local")
        alone = local.start(*LONG)
        assert alone.end() == 0, alone.lines
        expected = local.histories(local.runs()[0].info.run_id)
        server = Server(folder / "server")
        checkout = Checkout(folder / "checkout", uri=server.uri)
        return _short(checkout, server, expected) | _for_good(checkout, server, expected)


def _short(checkout: Checkout, server: "Server", expected: Histories) -> dict[str, object]:
    with server.up():
        command = checkout.start(*LONG)
        command.wait_for("device")
        time.sleep(4)
    for _ in range(2):
        time.sleep(10)
        assert command.process.poll() is None, "too short: the training ended during an outage"
        with server.up():
            time.sleep(20)  # longer than the longest pause between two attempts
    with server.up():
        status = command.end()
        found = checkout.histories(checkout.runs()[0].info.run_id)
    return {
        "stopped twice for 10 s: exit status": status,
        "stopped twice for 10 s: had to leave some on disk": _said(command, "the rest waits in"),
        "stopped twice for 10 s: points produced, and in the tracker": (_count(expected), _count(found)),
        "stopped twice for 10 s: equal, each at its step": found == expected,
        "stopped twice for 10 s: outages told, and ends of outages": (
            _said(command, "does not answer"),
            _said(command, "answers again"),
        ),
    }


def _for_good(checkout: Checkout, server: "Server", expected: Histories) -> dict[str, object]:
    with server.up():
        command = checkout.start(*LONG)
        command.wait_for("device")
        time.sleep(4)
    status = command.end()
    last = next(line for line in reversed(command.lines) if line.startswith("run="))
    with server.up():
        run = checkout.runs()[0]
        before = _count(checkout.histories(run.info.run_id))
        told = checkout.command("runs.py", "sync")
        run = checkout.runs()[0]
        found = checkout.histories(run.info.run_id)
        files = {file.path for file in checkout.client.list_artifacts(run.info.run_id, "checkpoints")}
    return {
        "away for good: exit status, last line": (status, " ".join(last.split()[1:])),
        "away for good: says where the rest waits": _said(command, "the rest waits in"),
        "away for good: points in the tracker before delivery": before,
        "away for good: points after runs.py sync": _count(found),
        "away for good: equal, each at its step": found == expected,
        "away for good: status, checkpoints there": (run.info.status, len(files)),
        "away for good: runs.py sync says": told.stdout.strip().split(": ")[-1],
    }


class Server:
    """``mlflow server`` on a free port, with a database and artifacts of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._port = one.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def up(self) -> Iterator[None]:
        """Start it; it answers until the end."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        where += ["--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1"]
        address = ["--host", "127.0.0.1", "--port", str(self._port)]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "mlflow", "server", *where, *address],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # seven processes less
                start_new_session=True,
            )
        self._wait(self._process)

    def stop(self) -> None:
        """Stop it and its workers."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            try:
                if requests.get(f"{self.uri}/health", timeout=1).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        raise RuntimeError((self._folder / "log").read_text()[-2000:])


def _count(histories: Histories) -> int:
    return sum(len(history) for history in histories.values())


def _said(command: Command, words: str) -> int:
    return sum(words in line for line in command.lines)
