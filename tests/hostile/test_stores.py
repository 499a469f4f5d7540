"""Tracking stores that are broken, something else, or nowhere: one line, and nothing made."""

import http.server
import os
import shutil
import socket
import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest
from mlflow import MlflowClient
from trained import refused

from foretrace.commands import runs
from foretrace.tracking import store
from foretrace.training.log_filters import filter_library_logs
from foretrace.workspace import Workspace

RUN = "0" * 32
COMMANDS = {
    "train": lambda root, uri: store.create_run(Workspace(root, uri), experiment="a", name="b", tags={}),
    "resume": lambda root, uri: store.find_run(RUN, Workspace(root, uri)),
    "list": lambda root, uri: runs.show(1, workspace=Workspace(root, uri)),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One of MLflow's, without a run."""
    path = tmp_path_factory.mktemp("store") / "whole.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").create_experiment("a")
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/.lock").touch()
    monkeypatch.setenv("FORETRACE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # that wait
    return tmp_path


@pytest.fixture
def refuse(root, capfd):
    """How a command refuses a store; None: the checkout's own."""
    filter_library_logs()

    def refuse(command, uri=None):
        before = sorted(root.rglob("*"))
        said = refused(root, lambda root: COMMANDS[command](root, uri))
        assert capfd.readouterr().err == ""
        assert sorted(root.rglob("*")) == before
        return said

    return refuse


def altered(statement):
    def alter(path, whole):
        shutil.copy(whole, path)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(statement)

    return alter


def other_program(path, _):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE moz_places (id INTEGER)")


def flip(path, whole):
    content = bytearray(whole.read_bytes())
    content[4196::4096] = bytes(byte ^ 0xFF for byte in content[4196::4096])
    path.write_bytes(content)


DATABASES = {
    "text": lambda path, _: path.write_text("Dear diary\n" * 100),
    "zeros": lambda path, _: path.write_bytes(bytes(9000)), "a byte": lambda path, _: path.write_bytes(b"S"),
    "a header": lambda path, whole: path.write_bytes(whole.read_bytes()[:100]),
    "a page": lambda path, whole: path.write_bytes(whole.read_bytes()[:4096]),
    "half": lambda path, whole: path.write_bytes(whole.read_bytes()[:200_000]), "flipped bits": flip,
    "another program's": other_program, "a folder": lambda path, _: path.mkdir(),
    "a pipe": lambda path, _: os.mkfifo(path), "a device": lambda path, _: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a newer version": altered("UPDATE alembic_version SET version_num = 'ffffffffffff'"),
    "an older version": altered("UPDATE alembic_version SET version_num = 'cc1f77228345'"),
    "no version": altered("DELETE FROM alembic_version"), "no runs": altered("DROP TABLE runs"),
    "no experiments": altered("DROP TABLE experiments"),
    "other columns": altered("ALTER TABLE runs RENAME COLUMN run_uuid TO a"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", DATABASES)
def test_a_file_that_is_no_such_database(root, database, refuse, command, case):
    DATABASES[case](root / "mlflow.db", database)
    refuse(command)


@pytest.mark.parametrize("case", DATABASES)
def test_one_at_an_address(root, database, refuse, case):
    DATABASES[case](root / "other.db", database)
    refuse("train", f"sqlite:///{root}/other.db")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_that_others_hold(root, database, refuse, monkeypatch, command):
    monkeypatch.setattr(store, "BUSY_S", 0.1)
    shutil.copy(database, root / "mlflow.db")
    with closing(sqlite3.connect(root / "mlflow.db")) as held:
        held.execute("BEGIN EXCLUSIVE")
        assert "locked" in refuse(command)


ADDRESSES = [
    "nonsense", " ", "foo://bar", "http://", "http:", "http:///x", "http://:5000", "http://[::1",
    "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://127.0.0.1:1", "https://127.0.0.1:1", "htp://127.0.0.1",
    "ftp://x", "file:.", "file:///nowhere", "/nowhere", ".", "mlruns", "sqlite:", "sqlite://", "sqlite:///",
    "sqlite:///:memory:", "sqlite:////dev/full", "sqlite:///mlruns", "sqlite+nope:///a.db", "postgresql://",
    "postgresql://ann:SECRET@127.0.0.1:1/x", "mysql://ann:SECRET@127.0.0.1/x", "mssql://x", "uc:x", "s3://bucket",
    "\x1b[31m", "é://x", "http://ann:SECRET@127.0.0.1:1", "http://a b", "http://.", "http://" + "a" * 300,
    "http://" + "a." * 5000, "http://127.0.0.1:1/?password=SECRET", "javascript:alert(1)", "C:\\mlruns", "runs:/x",
    "models:/x", "mlflow-artifacts:/x", "http://127.0.0.1:1#\n",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("uri", ADDRESSES, ids=lambda one: ascii(one)[1:40])
def test_where_no_store_can_be(refuse, command, uri):
    assert "SECRET" not in refuse(command, uri)


class Answers(http.server.BaseHTTPRequestHandler):
    status, content, headers_too = 200, b"", ()

    def do_GET(self):
        self.send_response(self.status)
        for name, value in self.headers_too:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    do_POST = do_GET  # noqa: N815  as the server looks for it

    def log_message(self, *_):
        pass


@contextmanager
def serving(**answer):
    handler = type("Answers", (Answers,), answer)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


SERVERS = {
    "a page": {"content": b"<!DOCTYPE html><title>Router</title>"}, "nothing": {}, "a list": {"content": b"[]"},
    "an empty record": {"content": b"{}"}, "a number": {"content": b'{"run": 5, "experiment": 5, "experiments": 5}'},
    "no text": {"content": b"\xff\xfe\0"}, "not found": {"status": 404, "content": b"<h1>404</h1>"},
    "an error": {"status": 500, "content": b"Traceback"}, "busy": {"status": 503}, "not allowed": {"status": 403},
    "no password": {"status": 401, "content": b"\x1b[31mgo away"}, "teapot": {"status": 418},
    "in a circle": {"status": 302, "headers_too": [("Location", "/")]},
    "to a file": {"status": 302, "headers_too": [("Location", "file:///etc/passwd")]},
    "brackets": {"content": b"[" * 1_000_000},
    "packed": {"content": b"x", "headers_too": [("Content-Encoding", "gzip")]},
}  # fmt: skip


@pytest.mark.parametrize("command", ["train", "resume"])
@pytest.mark.parametrize("case", SERVERS)
def test_what_answers_as_no_tracking_server_does(refuse, command, case):
    with serving(**SERVERS[case]) as uri:
        refuse(command, uri)


def test_another_run_than_was_asked_for(refuse):
    with serving(content=b'{"run": {"info": {"run_id": "1"}, "data": {}}}') as uri:
        assert "gives another" in refuse("resume", uri)


@pytest.mark.parametrize("case", ["a page", "an error", "a number", "no password", "in a circle"])
def test_no_list_of_its_runs(refuse, case):
    with serving(**SERVERS[case]) as uri:
        refuse("list", uri)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_never_answers(refuse, monkeypatch, command):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        refuse(command, f"http://127.0.0.1:{server.getsockname()[1]}")
