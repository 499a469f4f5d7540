"""A model as one file, and the forecasts that it gives."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import made, rows

import foretrace
from foretrace.errors import UserError
from foretrace.serving import predictor as predictor_module
from foretrace.serving.model_file import save_model


@pytest.mark.parametrize("covariates", [True, False])
def test_a_forecast_is_that_of_the_model_with_its_state_carried(covariates, monkeypatch):
    predictor, given, future = (
        made(covariates=covariates),
        rows(40, covariates=covariates),
        rows(5, seed=1)[["push"]],
    )
    x = torch.tensor(given.to_numpy(np.float32))[None]
    inputs = torch.cat([x[..., 2:], torch.tensor(future.to_numpy(np.float32))[None, :, : x.shape[2] - 2]], 1)
    with torch.inference_mode():
        scaled, _ = predictor.model.rollout(predictor.model.scaling(x[..., :2]), inputs, horizon=6)
        expected = predictor.model.scaling.inverse(scaled)[0].numpy()
    monkeypatch.setattr(predictor_module, "BLOCK", 7)
    found = predictor.predict(given, 6, future if covariates else None)
    assert list(found.columns) == ["height", "angle"]
    assert list(found.index) == [40, 41, 42, 43, 44, 45]
    assert (np.abs(found.to_numpy() - expected) / [9, 0.1]).max() < 1e-5


def test_step_by_step_it_says_the_same_and_can_go_back():
    predictor, given = made(), rows(20)
    state, states = predictor.start(), []
    for values in given.to_numpy():
        states.append(state)
        forecast, state = predictor.step(values, state)
    assert forecast == pytest.approx(predictor.predict(given).to_numpy()[0], rel=1e-5)
    again, _ = predictor.step(given.to_numpy()[-1], states[-1])
    assert (again == forecast).all()


WRONG = {
    "rows: no column 'push': must have .*, got height, angle, pull": lambda f: f.rename(columns={"push": "pull"}),
    "rows: the model does not read the column 'extra'": lambda f: f.assign(extra=1.0),
    "rows: must have the columns height, angle, push in this order": lambda f: f[["angle", "height", "push"]],
    r"rows: shape must be \(T, 3\), with height, .*, got \(9, 2\)": lambda f: np.ones((9, 2)),
    "rows, column 'angle', row 3: must be a finite number, got nan": lambda f: f.assign(
        angle=f.angle.where(f.index != 2)
    ),
    "rows, column 'height', row 1: must be a finite number, got inf": lambda f: f * [1e39, 1, 1],
    "rows, column 'push': must be numbers": lambda f: f.assign(push="left"),
    "rows: at least one row is needed": lambda f: f[:0],
    "index of rows: the time step must be 0.1 s as in training, got 0.2 s": lambda f: f.set_index(
        pd.date_range("2024", periods=9, freq="200ms")
    ),
    "index of rows, row 6: must be 0.1 s after the row before, got .*700.* after .*400": lambda f: f.set_index(
        pd.to_timedelta([0, 100, 200, 300, 400, 700, 800, 900, 1000], unit="ms")
    ),
    "index of rows, row 2: must be 0.1 s after the row before": lambda f: f.set_index(
        pd.date_range("2024", periods=9, freq="100ms")[::-1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_rows_that_do_not_fit_are_named(message):
    with pytest.raises(UserError, match=message):
        made().predict(WRONG[message](rows(9)))


def test_horizons_futures_and_steps_that_do_not_fit_are_named():
    predictor = made()
    with pytest.raises(UserError, match="future: a horizon of 3 needs 2 rows of push, got 1"):
        predictor.predict(rows(9), 3, [[1.0]])
    with pytest.raises(UserError, match="horizon: must be an integer > 0, got 0"):
        predictor.predict(rows(9), 0)
    with pytest.raises(UserError, match="future: the model has no covariates"):
        made(covariates=False).predict(rows(9, covariates=False), 3, [[1.0]])
    with pytest.raises(
        UserError, match=r"values: shape must be \(T, 3\), with height, angle, push, got \(1, 2\)"
    ):
        predictor.step([1.0, 2.0], predictor.start())


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_index_of_time_continues_in_its_zone(zone):
    index = pd.date_range(
        "2024-03-31 01:59:59.5", periods=11, freq="100ms", tz=zone
    )  # over a change of the clocks
    found = made().predict(rows(9).set_index(index[:9]), 2, [[0.0]])
    assert list(found.index) == list(index[-2:])


@pytest.mark.parametrize("settings", [{}, {"output": "value"}, {"input_clip": 1.0, "hidden_sizes": [3]}])
def test_a_file_holds_all_that_it_takes(tmp_path, settings):
    predictor = made(**settings)
    (tmp_path / "a folder").mkdir()
    save_model(tmp_path / "a folder" / "model.safetensors", predictor.card, predictor.model)
    before = torch.get_rng_state()
    for path in (tmp_path / "a folder", str(tmp_path / "a folder" / "model.safetensors")):
        loaded = foretrace.load(path)
        assert loaded.card == predictor.card
        assert loaded.predict(rows(9)).equals(predictor.predict(rows(9)))
    assert (loaded.feature_names, loaded.units) == (("height", "angle"), ("m", "rad"))
    assert (loaded.covariate_names, loaded.dt_s, loaded.data_digest) == (("push",), 0.1, "d1")
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.name for path in (tmp_path / "a folder").iterdir()] == ["model.safetensors"]


def test_importing_foretrace_loads_no_library():
    code = (
        "import foretrace, sys; print([n for n in ('torch', 'numpy', 'mlflow', 'hydra') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
