"""Training, listing and comparing from Python."""

import threading

import numpy as np
import pandas as pd
import pytest

import foretrace
from foretrace.commands.api import _data_overrides, _written
from foretrace.errors import UserError
from foretrace.workspace import Workspace

SMALL = {
    "model": {"hidden_sizes": [4]},
    "trainer": {"max_epochs": 1, "progress": False, "precision": "32-true", "diagnose_every": None},
    "evaluation": {"warmup": 5, "horizon": 5},
}
WAVE = np.stack([np.sin(np.arange(200) / 5), np.cos(np.arange(200) / 7)], axis=1)


@pytest.mark.slow
def test_a_frame_trains_in_a_thread_and_the_run_is_listed(here):
    found = []
    frame = pd.DataFrame(WAVE, columns=["left", "right"])
    cut = ["data.window=10", "data.stride=10"]
    thread = threading.Thread(target=lambda: found.append(foretrace.train(frame, *cut, **SMALL)))
    thread.start()
    thread.join()
    [run] = found
    assert run.report_path.is_file()
    assert run.figures
    assert "skill" in run._repr_html_()
    assert list(run.model.predict(frame.head(30), horizon=3).columns) == ["left", "right"]
    assert foretrace.runs().loc[run.id, "status"] == "FINISHED"


def test_runs_of_another_database_are_found_with_their_files(
    here, tmp_path_factory, no_pictures, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('elsewhere')}/runs.db")
    run = foretrace.train(WAVE, "data.window=10", "data.stride=10", **SMALL)
    assert run.report_path.is_file()
    assert run.model.card.run_id == run.id
    assert list(foretrace.runs().index) == [run.id]


def test_a_mistake_is_an_exception_with_the_commands_sentence(here):
    with pytest.raises(
        UserError, match=r"trainer\.max_epoch: unknown setting\. Did you mean trainer\.max_epochs"
    ):
        foretrace.train(WAVE, "trainer.max_epoch=5")
    assert not list(here.glob("mlruns/artifacts/*"))


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        (WAVE, ["feature_0", "feature_1"], 200),
        ([WAVE, WAVE[:50]], ["feature_0", "feature_1", "episode"], 250),
        (WAVE.reshape(4, 50, 2), ["feature_0", "feature_1", "episode"], 200),
        (
            pd.DataFrame(
                WAVE, columns=["x", "y"], index=pd.MultiIndex.from_product([["a", "b"], range(100)])
            ),
            ["x", "y", "episode"],
            200,
        ),
        ({"a": pd.DataFrame(WAVE, columns=["x", "y"])}, ["x", "y", "episode"], 200),
        (pd.DataFrame({"x": WAVE[:, 0]}, index=pd.date_range("2024", periods=200)), ["time", "x"], 200),
    ],
)
def test_frames_are_kept_once_under_their_content(tmp_path, data, columns, rows):
    first = _data_overrides(data, Workspace(tmp_path))
    assert first == _data_overrides(data, Workspace(tmp_path))
    [kept] = (tmp_path / ".cache/frames").glob("*.parquet")
    frame = pd.read_parquet(kept)
    assert (list(frame.columns), len(frame)) == (columns, rows)


@pytest.mark.parametrize("data", [[], ["text", "that", "is", "no", "array"], np.zeros(3)])
def test_what_is_no_data_is_said(tmp_path, data):
    with pytest.raises(UserError, match="data: "):
        _data_overrides(data, Workspace(tmp_path))


@pytest.mark.parametrize("text", ["it's", "a\\b", "x\\", "a, b", "[x", "${a}", "1", "true"])
def test_any_text_survives_as_an_override(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"key={_written(text)}").value() == text
