"""Files with the habits of real ones: the plain try reads them right, warns, or says what to set."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.data import sources
from foretrace.errors import UserError

MAKE = ROOT.parent / "shared" / "recordings" / "make.py"
NUMBERS = range(24)

pytestmark = pytest.mark.skipif(not MAKE.exists(), reason=f"{MAKE} is not on this machine")


@pytest.fixture(scope="session")
def recordings(once):
    """The folder of all files, with what is right for each."""
    return once("recordings", lambda folder: subprocess.run([sys.executable, MAKE, folder], check=True))


@pytest.fixture
def load(composed, recordings, tmp_path):
    def load(case: dict, settings: list[str]):
        chosen = [s.replace("data.root=", f"data.root={recordings}/") for s in settings]
        if not any(setting.startswith("data=") for setting in settings):
            chosen += ["data=files", f"data.path={recordings / case['path']}"]
        config = parse(composed(*chosen), TrainConfig)
        return sources.load(config.data, cache=tmp_path / ".cache")

    return load


@pytest.fixture(params=NUMBERS)
def case(request, recordings) -> dict:
    return json.loads(Path(recordings, "expected.json").read_text())[request.param]


def is_right(case: dict, module) -> bool:
    whole = module.windows["train"].sequences
    parts = [windows.sequences for windows in module.windows.values()]
    assert list(whole.feature_names) == case["features"]
    assert sum(part.num_rows for part in parts) == case["rows"]
    assert case["dt_s"] is None or whole.dt_s == pytest.approx(case["dt_s"], rel=1e-3)
    first = whole.bounds[0, 0]
    assert whole.values[first : first + 3, 0] == pytest.approx(case["first"], abs=1e-4)
    several = case["rows"] > 400
    end = whole.bounds[0, 1] if several and len({*whole.recordings}) == case["episodes"] else None
    if not several:
        end = max(part.bounds.max() for part in parts)
    assert end is None or several or whole.values[end - 3 : end, 0] == pytest.approx(case["last"], abs=1e-4)
    return True


def test_a_plain_try_reads_warns_or_asks(case, load):
    settings = case["settings"] if case["settings"][:1] == ["data=lerobot"] else []
    settings += [s for s in case["settings"] if s.startswith("data.window")]
    if case["first_try"] == "asks":
        with pytest.raises(UserError) as caught:
            load(case, [])
        assert all(setting.partition("=")[0] in str(caught.value) for setting in case["settings"])
        return
    module = load(case, [] if case["first_try"] == "warns" else list(dict.fromkeys(settings)))
    assert module.warnings or case["first_try"] == "reads"
    assert case["case"].startswith(("irregular", "year, month", "categories", "episodes")) or is_right(
        case, module
    )


def test_a_second_try_reads_it_right(case, load):
    assert is_right(case, load(case, case["settings"]))


def test_the_same_rows_in_different_parts_are_named(recordings, load):
    case = next(c for c in json.loads(Path(recordings, "expected.json").read_text()) if c["path"] == "twice")
    told = next(text for text in load(case, []).warnings if "different parts" in text)
    assert "2 (train) and 7 (valid)" in told
    assert "3 (train) and 8 (valid)" in told
    assert "4 (train) and 9 (test)" in told
