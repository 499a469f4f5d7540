"""A trained run in other forms: a file, ONNX, MLflow's registry, a server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import composed_with
from helpers import artifacts, client

import foretrace
from foretrace.commands import export as export_command
from foretrace.config import ExportConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.serving import onnx as onnx_file
from foretrace.workspace import Workspace

COLUMNS = ["height", "angle", "push"]


@pytest.fixture
def at(trained_on_files, bare, tmp_path_factory, monkeypatch):
    """A place with a trained run, and the run's id; at work in another folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    return trained_on_files.copy(bare).root, trained_on_files.run_id


def run_export(*overrides: str) -> None:
    config = parse(composed_with(*overrides, command="export"), ExportConfig)
    export_command.run(config, workspace=Workspace.default())


def recording(place: Path, rows: int) -> pd.DataFrame:
    return pd.read_csv(place / "9.csv")[:rows]


def test_the_run_holds_its_best_weights_as_a_model_without_pickle(at):
    place, run_id = at
    folder = artifacts(place, run_id)
    by_file, by_checkpoint = (
        foretrace.load(f"runs:/{run_id}"),
        foretrace.load(folder / "checkpoints" / "best.ckpt"),
    )
    rows = recording(place, 30)
    raw = by_file.predict(rows, 4, np.ones((3, 1)), calibrated=False)
    assert raw.equals(by_checkpoint.predict(rows, 4, np.ones((3, 1))))  # a checkpoint is not calibrated
    assert by_file.card.run_id == run_id
    assert by_file.card.model_copy(update={"run_id": None, "calibration": {}}) == by_checkpoint.card
    assert (by_file.covariate_names, by_file.dt_s, len(by_file.data_digest)) == (("push",), 0.1, 64)
    files = [path for path in (folder / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {"", ".txt", ".py", ".yaml", ".json", ".safetensors"}
    for path in files:
        assert not zipfile.is_zipfile(path)
        assert path.suffix == ".safetensors" or path.read_bytes().decode("utf-8")  # a pickle is no text


def test_a_folder_of_whatever_kind_is_enough(at, tmp_path):
    place, run_id = at
    folder, rows = artifacts(place, run_id), recording(place, 30)
    expected = foretrace.load(f"runs:/{run_id}/model").predict(rows)
    for path in (folder, folder.parent, folder / "model"):
        assert foretrace.load(path).predict(rows).equals(expected)
    shutil.copytree(folder / "checkpoints", tmp_path / "cut" / "checkpoints")  # all that a cut run has
    raw = foretrace.load(folder).predict(rows, calibrated=False)
    assert foretrace.load(tmp_path / "cut").predict(rows).equals(raw)
    loaded = mlflow.pyfunc.load_model(str(folder / "model"))
    future = pd.DataFrame({"height": [np.nan] * 3, "angle": [np.nan] * 3, "push": [1.0] * 3})
    found = loaded.predict(pd.concat([rows, future]), params={"horizon": 4})
    assert found.to_numpy() == pytest.approx(
        foretrace.load(folder).predict(rows, 4, np.ones((3, 1))).to_numpy()
    )
    with pytest.raises(UserError, match="no model in the folder"):
        foretrace.load(tmp_path)
    with pytest.raises(UserError, match="run: no run has the id"):
        foretrace.load("runs:/abc")


def test_onnx_is_called_whole_in_batches_and_step_by_step(at, capsys):
    place, run_id = at
    run_export(f"run={run_id}", "format=onnx")
    assert "agrees   ONNX Runtime" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("model.onnx")
    predictor, rows = foretrace.load(f"runs:/{run_id}"), recording(place, 40).to_numpy(np.float32)
    state = {
        f"{name}{layer}": np.zeros((1, 2, size), np.float32)
        for layer, size in enumerate((8, 6))
        for name in "hc"
    }
    two = np.stack([rows, rows[::-1]])
    forecast, *_ = session.run(None, {"values": two[..., :2], "covariates": two[..., 2:], **state})
    std = predictor.model.scaling.scale.numpy()
    for given, found in zip(two, forecast, strict=True):
        assert (np.abs(found - predictor.forecast_steps(given, predictor.start())[0]) / std).max() < 1e-4
    state = {name: tensor[:, :1] for name, tensor in state.items()}
    for row in rows:
        fed = {"values": row[None, None, :2], "covariates": row[None, None, 2:], **state}
        step, *after = session.run(None, fed)
        state = dict(zip(state, after, strict=True))
    assert (np.abs(step[0, 0] - forecast[0, -1]) / std).max() < 1e-4
    props = {one.key: json.loads(one.value) for one in onnx.load("model.onnx").metadata_props}
    assert (props["feature_names"], props["covariate_names"], props["dt_s"]) == (
        ["height", "angle"],
        ["push"],
        0.1,
    )
    assert (props["units"], props["data_digest"], props["run_id"]) == (
        ["m", ""],
        predictor.data_digest,
        run_id,
    )


def test_onnx_that_says_something_else_is_not_exported(at, monkeypatch):
    _, run_id = at
    write = onnx_file.write_onnx

    def write_another(path, predictor):
        with torch.no_grad():
            predictor.model.stack.head.bias += 1e-3
            write(path, predictor)
            predictor.model.stack.head.bias -= 1e-3

    monkeypatch.setattr(onnx_file, "write_onnx", write_another)
    with pytest.raises(UserError, match=r"\d+ rows at once: differs by .* more than 1e-05"):
        run_export(f"run={run_id}", "format=onnx")
    assert list(Path.cwd().iterdir()) == []


WRONG = {
    "give format=onnx, format=safetensors or register_as": "",
    "output: needs a format": "output=x.onnx register_as=x",
    "run: no run has the id 'abc'": "run=abc format=onnx",
    "format: must be 'onnx' or 'safetensors'": "format=pickle",
    "output: 'there' exists": "format=safetensors output=there",
    "data: the features are .*, where the model was trained on height, angle": "format=onnx data=halfcheetah",
    "register_as: ": "register_as='a/b:c'",
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_exported_is_named_and_nothing_is_made(at, message):
    Path("there").write_text("mine")
    with pytest.raises(UserError, match=message):
        run_export(f"run={at[1]}", *WRONG[message].split())
    assert [path.name for path in Path.cwd().iterdir()] == ["there"]


def test_a_registered_model_is_the_champion_and_loads_by_its_name(at, capsys):
    place, run_id = at
    parent = client(place).create_run("1", tags={"best_child": run_id}).info.run_id
    try:
        for version in (1, 2):
            run_export(f"run={parent}", "register_as=gait")  # of a sweep, the best child
            champion = client(place).get_model_version_by_alias("gait", "champion")
            assert (champion.version, champion.run_id) == (version, run_id)
        assert "now models:/gait@champion" in capsys.readouterr().out
        run_export(f"run={parent}", "format=safetensors", "output=best.safetensors")
    finally:
        client(place).delete_run(parent)
    rows = recording(place, 30)
    assert (
        foretrace.load("models:/gait@champion")
        .predict(rows)
        .equals(foretrace.load("best.safetensors").predict(rows))
    )
    with pytest.raises(UserError, match="model: no models:/other@champion in the registry"):
        foretrace.load("models:/other@champion")


@pytest.mark.slow
def test_a_server_answers_in_raw_units_and_says_what_is_wrong(at):
    place, run_id = at
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mlflow_command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command = [*mlflow_command, "-m", f"runs:/{run_id}/model", "-p", str(port)]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    server = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def ask(body: object) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        until = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping").close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < until
                time.sleep(0.2)
        rows = recording(place, 20)
        split = {"columns": COLUMNS, "data": [*rows.to_numpy().tolist(), [None, None, 1.0]]}
        status, answer = ask({"dataframe_split": split, "params": {"horizon": 2}})
        assert status == 200
        found = pd.DataFrame(json.loads(answer)["predictions"])
        expected = foretrace.load(f"runs:/{run_id}").predict(rows, 2, [[1.0]])
        assert list(found.columns) == ["height", "angle"]
        assert found.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)
        status, answer = ask({"dataframe_split": split, "params": {"horizon": 3}})
        assert (status, "a horizon of 3 needs 2 rows of push, got 1" in answer) == (400, True)
        split["data"][3][0] = None
        status, answer = ask({"dataframe_split": split})
        assert (status, "column 'height', row 4: must be a finite number" in answer) == (400, True)
        status, answer = ask({"dataframe_split": {"columns": ["height"], "data": [[1.0]]}})
        assert (status, "missing inputs ['angle', 'push']" in answer) == (400, True)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
