"""A team's tracking server: PostgreSQL, an artifact store and passwords, all of them real."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from helpers import new_checkout, train
from mlflow import MlflowClient

pytestmark = pytest.mark.server

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's place for them
DATABASE_PASSWORD, USER, PASSWORD = "Knot-of-9-ropes", "ann", "Lamp/of@7-oils"  # as a password may be
ENCODED = "Lamp%2Fof%407-oils"


class Server(NamedTuple):
    """Where it answers, where it keeps files, and how its database is dumped."""

    address: str
    files: Path
    dump: list[str]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "MLFLOW_TRACKING_URI": self.address, **self.credentials}

    @property
    def credentials(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def postgres() -> Iterator[tuple[str, list[str]]]:
    """The address of a database of its own, and the command that prints all that is in it."""
    if not PROGRAMS:
        pytest.fail("expected PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    programs, port = PROGRAMS[-1], free_port()
    owner = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    home = Path(subprocess.check_output(["mktemp", "-d"], text=True, cwd="/", **owner).strip())
    (secret := home / "password").write_text(DATABASE_PASSWORD)
    secret.chmod(0o644)
    say = {"cwd": "/", "check": True, "stdout": subprocess.DEVNULL, **owner}
    make = ["--username=tracker", f"--pwfile={secret}", "--auth=scram-sha-256", "--no-sync"]
    subprocess.run([programs / "initdb", home / "data", *make], **say)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    control = [programs / "pg_ctl", "--pgdata", home / "data", "--wait"]
    subprocess.run([*control, "--log", home / "log", "--options", options, "start"], **say)
    try:
        address = f"postgresql+psycopg://tracker:{DATABASE_PASSWORD}@127.0.0.1:{port}/postgres"
        yield address, [str(programs / "pg_dump"), address.replace("+psycopg", "")]
    finally:
        subprocess.run([*control, "--mode=immediate", "stop"], **say)
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory) -> Iterator[Server]:
    """`mlflow server` with files of its own and one user, as docs/server.md starts it."""
    database, dump = postgres
    home, port = tmp_path_factory.mktemp("server"), free_port()
    (home / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\nauthorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\n"
        f"database_uri = sqlite:///{home}/users.db\nadmin_username = {USER}\nadmin_password = {PASSWORD}\n"
    )
    command = [sys.executable, "-m", "mlflow", "server", "--app-name=basic-auth", "--workers=1"]
    command += ["--serve-artifacts", f"--artifacts-destination={home / 'files'}", f"--port={port}"]
    secrets = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 32}
    secrets["MLFLOW_AUTH_CONFIG_PATH"] = str(home / "auth.ini")
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=home, env=os.environ | secrets, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, home / "log")
        yield Server(f"http://127.0.0.1:{port}", home / "files", dump)
    finally:
        process.terminate()
        process.wait(60)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            return urlopen(address, timeout=5).close()
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(10):
        time = np.arange(60) / 5 + number
        pd.DataFrame({"left": np.sin(time), "right": np.cos(time)}).to_csv(
            folder / f"{number}.csv", index=False
        )
    return folder


@pytest.fixture(scope="module")
def job(recordings) -> list[str]:
    sizes = ["data.window=10", "data.stride=10", "data.batch_size=16", "model.hidden_sizes=[4]"]
    small = ["trainer.max_epochs=1", "trainer.progress=false", "evaluation={warmup: 4, horizon: 8}"]
    return ["data=files", f"data.path={recordings}", *sizes, *small]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return new_checkout(tmp_path_factory.mktemp("server") / "a checkout")


@pytest.fixture(scope="module")
def client(server) -> Iterator[MlflowClient]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.credentials.items():
            patch.setenv(name, value)
        yield MlflowClient(server.address)


@pytest.fixture(scope="module")
def run_id(server, checkout, job) -> str:
    done = train(checkout, *job, env=server.environment)
    assert done.returncode == 0, done.stderr
    return value_of("run", done.stdout)


def value_of(name: str, output: str) -> str:
    return next(word for word in output.splitlines()[-1].split() if word.startswith(f"{name}="))[
        len(name) + 1 :
    ]


def test_a_run_is_on_the_server_with_its_curves_and_its_files(client, run_id, server):
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run_id, "MSE train loss")]
    assert steps == list(range(len(steps)))
    assert len(steps) == 3
    files = {file.relative_to(server.files / run.info.experiment_id / run_id / "artifacts").as_posix()
             for file in server.files.rglob(f"{run_id}/**/*") if file.is_file()}  # fmt: skip
    assert {"report.html", "config.yaml", "model/MLmodel", "checkpoints/best.ckpt"} <= files
    assert any(file.startswith("figures/") for file in files)


def test_another_machine_goes_on_with_it_forecasts_and_registers_it(
    client, run_id, server, job, recordings, tmp_path
):
    """As another checkout knows neither its checkpoints nor its model."""
    other = new_checkout(tmp_path / "other")
    asked = {"cwd": tmp_path, "env": server.environment}
    new = f"data.path={recordings}/0.csv"
    more = train(other, f"resume={run_id}", "trainer.max_epochs=2", **asked)
    forecast = train(other, f"run={run_id}", new, "output=out.csv", command="predict", **asked)
    registered = train(other, f"run={run_id}", "register_as=waves", command="export", **asked)
    assert [done.returncode for done in (more, forecast, registered)] == [0, 0, 0], more.stderr
    assert len(client.get_metric_history(run_id, "MSE train loss")) == 6
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1
    assert client.get_model_version_by_alias("waves", "champion").run_id == run_id


def test_a_sweep_has_its_children_on_the_server(client, server, checkout, job):
    done = train(checkout, "-m", *job, "seed=1,2", env=server.environment)
    assert done.returncode == 0, done.stderr
    parent = client.get_run(value_of("sweep", done.stdout))
    found = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert [run.info.status for run in (parent, *found)] == ["FINISHED"] * 3


def test_several_first_runs_at_once_make_one_experiment(client, server, job, tmp_path):
    command = [*job, "tracking.experiment=at once"]
    begun = []
    for number in range(2):
        root = new_checkout(tmp_path / str(number))
        begun.append(subprocess.Popen(
            [sys.executable, str(root / "src" / "train.py"), *command], env=server.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
    said = [process.communicate()[0] for process in begun]
    assert [process.returncode for process in begun] == [0, 0], said
    experiment = client.get_experiment_by_name("at once")
    assert len(client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.parametrize("password", ["wrong", None])
def test_without_the_right_password_nothing_begins(server, job, tmp_path, password):
    root = new_checkout(tmp_path / "checkout")
    known = {name: value for name, value in os.environ.items() if name not in server.credentials}
    environment = known | {"MLFLOW_TRACKING_URI": server.address}
    if password:
        environment |= {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": password}
    done = train(root, *job, env=environment)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "401" in done.stderr
    assert [path.name for path in (root / "mlruns").iterdir() if path.name != ".lock"] == []


def test_passwords_are_nowhere(server, job, run_id, tmp_path):
    """Not in what is printed, kept on disk, uploaded, or in the database; in an address, too."""
    root = new_checkout(tmp_path / "checkout")
    address = server.address.replace("://", f"://{USER}:{ENCODED}@")
    done = train(root, *job, f"tracking.uri={address}")
    assert done.returncode == 0, done.stderr
    failed = train(root, "-m", *job, f"tracking.uri={address.replace('http', 'ftp')}", "seed=1")
    assert failed.returncode == 2
    kept = [file for place in (root, server.files) for file in place.rglob("*") if file.is_file()]
    held = {str(file): file.read_bytes() for file in kept}
    held |= {"database": subprocess.check_output(server.dump)}
    held |= {"printed": "".join([done.stdout, done.stderr, failed.stdout, failed.stderr]).encode()}
    assert f"look     {server.address}/#/experiments/" in done.stdout
    assert run_id.encode() in held["database"], "or nothing of this was looked at"
    secrets = [secret.encode() for secret in (PASSWORD, ENCODED, DATABASE_PASSWORD)]
    assert [place for place, content in held.items() if any(secret in content for secret in secrets)] == []
