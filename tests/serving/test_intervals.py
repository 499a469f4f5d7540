"""Intervals are the same wherever a forecast comes out."""

import json

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from helpers import calibrated, made, rows

from foretrace.errors import UserError
from foretrace.serving.model_file import write_mlflow_model

MODEL, GAUSSIAN = calibrated(made()), calibrated(made(gaussian=True))
FUTURE = np.ones((4, 1))


def test_interval_columns_follow_each_feature():
    found = MODEL.predict(rows(9), 3, FUTURE, intervals=[90])
    x, angle = MODEL.feature_names
    assert list(found) == [x, f"{x}_lo90", f"{x}_hi90", angle, f"{angle}_lo90", f"{angle}_hi90"]
    assert (found[f"{x}_lo90"] < found[x]).all()
    assert (found[f"{x}_hi90"] > found[x]).all()


def test_forecast_is_shrunk_and_the_raw_one_can_be_had():
    raw = MODEL.predict(rows(9), 5, FUTURE, calibrated=False).to_numpy()
    mean, scale = (part.numpy() for part in MODEL.model.scaling.buffers())
    calibration, at = MODEL.calibration, [0, 1, 2, 2, 2]  # beyond the third step, as for that
    shrunk = calibration.center + calibration.shrinkage[at] * ((raw - mean) / scale - calibration.center)
    found = MODEL.predict(rows(9), 5, FUTURE, intervals=[50])
    np.testing.assert_allclose(found[list(MODEL.feature_names)], mean + scale * shrunk, rtol=1e-5)
    width = (found.iloc[:, 2] - found.iloc[:, 1]).to_numpy()
    np.testing.assert_allclose(width, 2 * scale[0] * calibration.half_width[0, at, 0], rtol=1e-3)


@pytest.mark.parametrize("model", [MODEL, GAUSSIAN])
def test_served_model_gives_the_same_intervals(tmp_path, model):
    write_mlflow_model(tmp_path / "model", model)
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    future = rows(2).assign(**dict.fromkeys(model.feature_names, np.nan))
    asked = {"horizon": 3, "intervals": [50.0, 90.0]}
    found = served.predict(pd.concat([rows(9), future]).astype(float), params=asked)
    expected = model.predict(rows(9), 3, future[list(model.covariate_names)], intervals=[50, 90])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert list(found) == list(expected)


@pytest.mark.parametrize("model", [MODEL, GAUSSIAN])
def test_intervals_can_be_made_from_what_an_onnx_file_says(tmp_path, model):
    """As docs/using_a_model.md has it."""
    onnx = pytest.importorskip("onnx")
    from foretrace.serving.onnx import OnnxRunner, write_onnx

    write_onnx(tmp_path / "model.onnx", model)
    said = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    mean, scale, center, shrinkage, half_width = (
        np.array(said[f"calibration.{name}"])
        for name in ("mean", "scale", "center", "shrinkage", "half_width")
    )
    level = said["calibration"]["levels"].index(90)
    runner, given = OnnxRunner(tmp_path / "model.onnx"), rows(9).to_numpy(np.float32)
    forecasts, spread, state = runner.forecast_steps(given, runner.start())
    rollout, spreads = [forecasts[-1]], [spread]
    for pushed in FUTURE[:2]:
        fed = np.concatenate([rollout[-1], pushed]).astype(np.float32)
        forecasts, spread, state = runner.forecast_steps(fed[None], state)
        rollout.append(forecasts[-1])
        spreads.append(spread)
    width = half_width[level]
    if model is GAUSSIAN:
        total = np.sqrt(np.cumsum(np.square([spread[-1] for spread in spreads]), axis=0))
        width = width * total ** np.array(said["calibration.exponent"])
    point = center + shrinkage * ((np.array(rollout) - mean) / scale - center)
    low, high = (mean + scale * (point + sign * width) for sign in (-1, 1))
    found = model.predict(rows(9), 3, FUTURE, intervals=[90]).to_numpy()
    np.testing.assert_allclose(found[:, [1, 4]], low, rtol=1e-4)
    np.testing.assert_allclose(found[:, [2, 5]], high, rtol=1e-4)


def test_width_follows_the_state_of_a_model_that_gives_a_spread():
    widths = {
        name: [np.ptp(model.predict(rows(9, seed=s), 3, FUTURE, intervals=[90]).iloc[2, 4:6]) for s in (0, 1)]
        for name, model in (("mse", MODEL), ("gaussian", GAUSSIAN))
    }
    assert widths["mse"][0] == pytest.approx(widths["mse"][1], rel=1e-5)
    assert widths["gaussian"][0] != pytest.approx(widths["gaussian"][1], rel=1e-3)


@pytest.mark.parametrize(
    ("model", "said"),
    [(MODEL, "none at 95 %, only at 50, 90 %"), (made(), "none at 95 %[.]")],
)
def test_level_that_the_model_does_not_have_is_refused(model, said):
    with pytest.raises(UserError, match=said):
        model.predict(rows(9), intervals=[95])
