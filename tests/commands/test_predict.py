"""Forecasts of recordings, from files to a table and a picture."""

import numpy as np
import pandas as pd
import pytest
from helpers import NAMES, ROOT, calibrated, made, rows, train
from hydra import compose, initialize_config_dir

from foretrace.commands import predict as predict_command
from foretrace.config import PredictConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.serving.model_file import save_model
from foretrace.workspace import Workspace


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model that knows an input, one that knows none, and recordings of both."""
    monkeypatch.chdir(tmp_path)
    for name, covariates in (("model", True), ("plain", False)):
        predictor = made(covariates=covariates)
        save_model(tmp_path / f"{name}.safetensors", predictor.card, predictor.model)
    two = pd.concat([rows(30).assign(run="b"), rows(25, seed=1).assign(run="a")])
    two.assign(note="x")[["note", "push", "run", "angle", "height"]].to_csv("two.csv", index=False)
    rows(30, covariates=False).to_parquet("one.parquet")
    np.save("one.npy", rows(30, covariates=False).to_numpy())
    return tmp_path


def predict(*overrides: str) -> None:
    with initialize_config_dir(str(ROOT / "src" / "foretrace" / "commands"), version_base="1.3"):
        config = parse(compose("predict", overrides=list(overrides)), PredictConfig)
    predict_command.run(config, workspace=Workspace.default())


TWO = ("model=model.safetensors", "data.path=two.csv", "data.episode_column=run")


def test_the_rows_after_each_episode_are_those_of_the_model(place):
    predict(*TWO, "output=out.csv")
    found = pd.read_csv("out.csv")
    assert list(found.columns) == ["episode", "step", "time", "height", "angle"]
    assert list(found.episode) == ["b", "a"]
    assert list(found.step) == [30, 25]
    assert list(found.time) == [3.0, 2.5]
    expected = [made().predict(rows(n, seed=s)).to_numpy()[0] for n, s in ((30, 0), (25, 1))]
    assert found[["height", "angle"]].to_numpy() == pytest.approx(np.array(expected), rel=1e-4)
    assert (place / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("gaussian", [False, True])
def test_intervals_follow_each_feature_unless_they_are_left_out(place, capsys, gaussian):
    model = calibrated(made(covariates=False, gaussian=gaussian))
    save_model(place / "sure.safetensors", model.card, model.model, model.calibration)
    ask = ("model=sure.safetensors", "data.path=one.parquet", "horizon=4", "overwrite=true")
    predict(*ask, "output=out.csv")
    expected = model.predict(rows(30, covariates=False), 4, intervals=[50, 90])
    found = pd.read_csv("out.csv")
    assert list(found.columns[3:]) == list(expected.columns)
    assert found.iloc[:, 3:].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)
    assert "40 forecasts in 8 recordings of the validation part; beyond 3 steps" in capsys.readouterr().out
    predict(*ask[:2], "output=out.csv", "overwrite=true", "mode=one_step")
    one_step = model.predict(rows(30, covariates=False), 1, intervals=[50, 90])
    assert pd.read_csv("out.csv").iloc[-1, 3:].to_list() == pytest.approx(
        one_step.iloc[0].to_list(), rel=1e-4
    )
    predict(*ask, "output=out.csv", "intervals=null")
    assert list(pd.read_csv("out.csv").columns[3:]) == ["height", "angle"]
    with pytest.raises(UserError, match="none at 80 %, only at 50, 90 %"):
        predict(*ask, "output=other.csv", "intervals=[80]")
    assert not (place / "other.csv").exists()


@pytest.mark.parametrize("path", ["one.parquet", "one.npy"])
def test_further_rows_feed_on_the_first_in_whatever_format(place, path):
    model = "model=plain.safetensors"
    predict(model, f"data.path={path}", "output=out.parquet", "horizon=9")  # an array: in the model's order
    found = pd.read_parquet("out.parquet")
    expected = made(covariates=False).predict(rows(30, covariates=False), 9)
    assert list(found.step) == list(range(30, 39))
    assert found[["height", "angle"]].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)


@pytest.mark.parametrize("mode", ["one_step", "forecast"])
def test_blocks_say_what_the_whole_says(place, monkeypatch, mode):
    predict(*TWO, f"mode={mode}", "output=whole.parquet")
    monkeypatch.setattr(predict_command, "BLOCK", 7)
    predict(*TWO, f"mode={mode}", "output=blocks.parquet")
    whole, blocks = pd.read_parquet("whole.parquet"), pd.read_parquet("blocks.parquet")
    assert len(whole) == (55 if mode == "one_step" else 2)
    assert list(blocks.step) == list(whole.step)
    assert blocks[NAMES[:2]].to_numpy() == pytest.approx(whole[NAMES[:2]].to_numpy(), rel=1e-5)
    if mode == "one_step":
        assert list(whole.step[:30]) == list(range(1, 31))
        state = made().start()
        first, _ = made().step(rows(1).to_numpy()[0], state)
        assert whole[NAMES[:2]].to_numpy()[0] == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("block", [7, 4096])
def test_rows_with_known_inputs_alone_are_the_future(place, monkeypatch, block):
    given = rows(30)
    given.loc[26:, NAMES[:2]] = np.nan
    given.to_csv("plan.csv", index=False)
    monkeypatch.setattr(predict_command, "BLOCK", block)
    predict("model=model.safetensors", "data.path=plan.csv", "output=out.csv", "horizon=5")
    expected = made().predict(given[:26], 5, given[26:][["push"]]).to_numpy()
    assert pd.read_csv("out.csv")[NAMES[:2]].to_numpy() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(
        UserError, match="plan, rows without features: a horizon of 6 needs 5 rows of push, got 4"
    ):
        predict("model=model.safetensors", "data.path=plan.csv", "output=more.csv", "horizon=6")


def times(step: str) -> str:
    index = pd.date_range("2024", periods=30, freq=step)
    return rows(30).assign(at=index).to_csv(index=False)


WRONG = {
    "output: 'there.csv' exists": ("output=there.csv", ""),
    "output: must end in .csv or .parquet, got 'out.txt'": ("output=out.txt", ""),
    "output: there is no folder 'none'": ("output=none/out.csv", ""),
    "in.csv: no column 'push'": ("", rows(9)[NAMES[:2]].to_csv(index=False)),
    "in.csv, column 'angle', row 5: a value is missing": (
        "", rows(9).assign(angle=lambda f: f.angle.where(f.index != 4)).to_csv(index=False)
    ),
    "in.csv, column 'angle', row 3: 'much' is not a number": ("", "height,angle,push\n" + "1,2,3\n" * 2 + "1,much,3\n"),
    "in.csv: a time step of 1 s, where the model was trained on steps of 0.1 s": ("data.order_column=at", times("1s")),
    "data.episode_column: column 'push' is named twice": ("data.episode_column=push", ""),
    "in.csv: not one row": ("", rows(0).to_csv(index=False)),
    "horizon: must be 1 with mode=one_step": ("mode=one_step horizon=2", ""),
    "give either run or model, got both": ("run=abc", ""),
    "data.episodes: unknown setting": ("+data.episodes=run", ""),
    "start: has a new name. Use mode=forecast or mode=one_step": ("+start=each", ""),
    "data.path: no recordings at": ("data.path=nothing/*.csv", ""),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_forecast_is_named_and_nothing_is_made(place, message):
    overrides, text = WRONG[message]
    (place / "there.csv").write_text("mine")
    (place / "in.csv").write_text(text or rows(9).to_csv(index=False))
    before = {path.name for path in place.iterdir()}
    with pytest.raises(UserError, match=message):
        predict("model=model.safetensors", "data.path=in.csv", "output=out.csv", *overrides.split())
    assert {path.name for path in place.iterdir()} == before
    assert (place / "there.csv").read_text() == "mine"


def test_what_was_there_is_replaced_on_request_as_a_whole(place, monkeypatch):
    (place / "out.csv").write_text("mine")
    monkeypatch.setattr(predict_command, "feature_lines", None)  # fails after the table was written
    with pytest.raises(TypeError):
        predict(*TWO, "output=out.csv", "mode=one_step", "overwrite=true")
    assert (place / "out.csv").read_text() == "mine"
    assert {path.suffix for path in place.iterdir()} == {".csv", ".parquet", ".npy", ".safetensors"}
    predict(*TWO, "output=out.csv", "overwrite=true")
    assert len(pd.read_csv("out.csv")) == 2


def test_a_feature_may_be_called_step(place):
    predictor = made(covariates=False)
    card = predictor.card.model_copy(update={"feature_names": ("step", "angle")})
    save_model(place / "odd.safetensors", card, predictor.model)
    rows(9, covariates=False).rename(columns={"height": "step"}).to_csv("odd.csv", index=False)
    predict("model=odd.safetensors", "data.path=odd.csv", "output=out.csv")
    assert list(pd.read_csv("out.csv").columns) == ["episode", "forecast step", "time", "step", "angle"]


@pytest.mark.slow
def test_the_command_forecasts_and_refuses_in_one_line(place, checkout):
    arguments = ["model=plain.safetensors", "data.path=one.parquet", "output=out.csv", "horizon=5"]
    done = train(checkout, *arguments, command="predict", cwd=place)
    assert done.returncode == 0, done.stderr
    said = "forecast not calibrated, as the model was not: there are no intervals\nforecast 5 rows of 1 episode\n"
    assert done.stdout == f"{said}table    out.csv\npicture  out.png\n"
    assert done.stderr == ""
    done = train(checkout, *arguments, command="predict", cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: output: 'out.csv' exists")
    assert done.stderr.count("\n") == 1


def test_new_files_are_read_as_the_training_data_were(place):
    predictor = made(covariates=False)
    reading = {"features": ["height", "angle"], "order_column": ["day", "hour"], "time_format": "%d.%m.%Y %H:%M",
               "missing": "interpolate", "missing_values": [-999], "decimal": ","}  # fmt: skip
    card = predictor.card.model_copy(update={"reading": reading, "dt_s": 3600.0})
    save_model(place / "dated.safetensors", card, predictor.model)
    given = rows(30, covariates=False)
    text = given.assign(day="01.03.2024", hour=[f"{n % 24}:00" for n in range(30)])
    text.loc[24:, "day"] = "02.03.2024"
    text.loc[7, "height"] = -999
    text.to_csv("new.csv", index=False, sep=";", decimal=",")
    predict("model=dated.safetensors", "data.path=new.csv", "output=out.parquet", "horizon=2")
    found = pd.read_parquet("out.parquet")
    assert list(found.time.astype(str)) == ["2024-03-02 06:00:00", "2024-03-02 07:00:00"]
    given.loc[7, "height"] = given.height[[6, 8]].mean()
    assert found[NAMES[:2]].to_numpy() == pytest.approx(predictor.predict(given, 2).to_numpy(), rel=1e-3)


def test_files_in_another_unit_are_refused(place):
    predictor = made(covariates=False)
    card = predictor.card.model_copy(update={"reading": {"units_row": True}, "units": ("m", "rad")})
    save_model(place / "units.safetensors", card, predictor.model)
    for name, units in (("feet.csv", "ft,rad"), ("metres.csv", "m,rad")):
        text = rows(30, covariates=False).to_csv(index=False)
        (place / name).write_text(text.replace("\n", f"\n{units}\n", 1))
    ask = ("model=units.safetensors", "output=out.csv")
    with pytest.raises(UserError, match="height is in ft, where the model was trained on m"):
        predict(*ask, "data.path=feet.csv")
    predict(*ask, "data.path=metres.csv")
