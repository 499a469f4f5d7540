"""Intervals are the same wherever a forecast comes out."""

import json

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from helpers import calibrated, made, rows

from foretrace.errors import UserError
from foretrace.serving.registry import write_mlflow_model

MODEL = calibrated(made())
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


def test_served_model_gives_the_same_intervals(tmp_path):
    write_mlflow_model(tmp_path / "model", MODEL)
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    future = rows(2).assign(**dict.fromkeys(MODEL.feature_names, np.nan))
    asked = {"horizon": 3, "intervals": [50.0, 90.0]}
    found = served.predict(pd.concat([rows(9), future]).astype(float), params=asked)
    expected = MODEL.predict(rows(9), 3, future[list(MODEL.covariate_names)], intervals=[50, 90])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert list(found) == list(expected)


def test_intervals_can_be_made_from_what_an_onnx_file_says(tmp_path):
    """As docs/using_a_model.md has it."""
    onnx = pytest.importorskip("onnx")
    from foretrace.serving.onnx import write_onnx

    write_onnx(tmp_path / "model.onnx", MODEL)
    said = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    mean, scale, center, shrinkage, half_width = (
        np.array(said[f"calibration.{name}"])
        for name in ("mean", "scale", "center", "shrinkage", "half_width")
    )
    level = said["calibration"]["levels"].index(90)
    raw = MODEL.predict(rows(9), 3, FUTURE, calibrated=False).to_numpy()
    point = center + shrinkage * ((raw - mean) / scale - center)
    low, high = (mean + scale * (point + sign * half_width[level]) for sign in (-1, 1))
    found = MODEL.predict(rows(9), 3, FUTURE, intervals=[90]).to_numpy()
    np.testing.assert_allclose(found[:, [1, 4]], low, rtol=1e-4)
    np.testing.assert_allclose(found[:, [2, 5]], high, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "said"),
    [(MODEL, "none at 95 %, only at 50, 90 %"), (made(), "none at 95 %[.]")],
)
def test_level_that_the_model_does_not_have_is_refused(model, said):
    with pytest.raises(UserError, match=said):
        model.predict(rows(9), intervals=[95])
