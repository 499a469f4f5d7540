"""Features at the limits of numbers, and recordings at the limits of length, through whole runs."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers import SMALL

from foretrace.commands import train as train_command
from foretrace.errors import UserError
from foretrace.workspace import Workspace

T = np.arange(150)
WAVE = np.sin(T / 9)
LATE = np.where(T < 140, 1.0, WAVE)
USABLE = {
    "scales apart": {"a": 1e-15 * WAVE, "b": 1e15 * WAVE},
    "30 powers of ten up and down": {"a": 1e-30 * WAVE, "b": 1e30 * WAVE},
    "one that never changes": {"a": WAVE, "b": 0 * T + 7.0},
    "one that changes at the end": {"a": WAVE, "b": LATE},
    "none that changes": {"a": 0 * T + 1.0, "b": 0 * T},
    "whole numbers": {"a": T, "b": T % 2},
}
REFUSED = {
    "too large": {"a": 1e37 * WAVE, "b": WAVE},
    "too small": {"a": 1e-39 * WAVE, "b": WAVE},
    "a small signal far from zero": {"a": 1e7 + WAVE, "b": WAVE},
    "beyond single precision": {"a": 1e300 * WAVE, "b": WAVE},
    "beneath it": {"a": 1e-300 * WAVE, "b": WAVE},
    "a row": {"a": WAVE[:1], "b": WAVE[:1]},
    "as long as a window": {"a": WAVE[:10], "b": WAVE[:10]},
}


@pytest.fixture
def train(composed, here, monkeypatch):
    monkeypatch.setattr("foretrace.reports.report.draw", lambda *_, **__: [])

    def run(columns):
        pd.DataFrame(columns).to_csv(here / "run.csv", index=False)
        return train_command.run(
            composed("data=files", f"data.path={here}/run.csv", *SMALL[2:]), workspace=Workspace.default()
        )

    return run


@pytest.mark.parametrize("case", USABLE)
def test_it_is_trained_on_and_judged_in_numbers(train, case):
    metrics = train(USABLE[case])
    undefined = {name for name, value in metrics.items() if not math.isfinite(value)}
    assert case == "none that changes" or not undefined


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(train, here, case):
    with pytest.raises(UserError, match=": "):
        train(REFUSED[case])
    assert not (here / "mlruns").exists()
