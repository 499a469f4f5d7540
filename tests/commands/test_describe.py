"""How recordings will be read: what is printed, and the table that is written."""

import numpy as np
import pandas as pd
import pytest

from foretrace.commands import describe
from foretrace.config import DescribeConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.workspace import Workspace


@pytest.fixture
def said(composed, tmp_path, capsys):
    hours = pd.date_range("2024-01-01", periods=300, freq="h")
    table = pd.DataFrame(
        {"time": hours, "level": np.sin(np.arange(300) / 9), "no": np.arange(300), "mode": "auto"}
    )
    table.to_csv(tmp_path / "run.csv", index=False)

    def said(*overrides: str) -> str:
        settings = composed(f"data.path={tmp_path / 'run.csv'}", *overrides, command="describe")
        describe.run(parse(settings, DescribeConfig), workspace=Workspace(tmp_path))
        return capsys.readouterr().out

    return said


def test_columns_time_parts_and_doubts_are_told(said):
    lines = said().splitlines()
    assert any(line.split()[:2] == ["level", "feature"] for line in lines)
    assert any(line.split()[:2] == ["time", "time"] for line in lines)
    assert any(line.split() == ["no", "passed", "over:", "only", "counts", "rows"] for line in lines)
    assert any(
        "step 3600 s" in line and "2024-01-01T00:00:00 to 2024-01-13T11:00:00" in line for line in lines
    )
    assert lines[-1].startswith(
        "data rows=300 episodes=1 features=1 covariates=0 dt_s=3600 windows=7/0/0 digest="
    )


def test_the_table_that_is_written_is_read_as_the_same_data(said, tmp_path):
    clean = tmp_path / "clean.parquet"
    first = said("data.covariates=[mode]", f"output={clean}")
    table = pd.read_parquet(clean)
    assert list(table.columns) == ["episode", "time", "level", "mode=auto"]
    again = said(f"data.path={clean}", "data.episode_column=episode", "data.covariates=['mode=auto']")
    assert again.splitlines()[-1] == first.splitlines()[-1]


def test_a_table_of_another_format_is_refused(said):
    with pytest.raises(UserError, match=r"output: must end in \.parquet, got 'clean\.csv'"):
        said("output=clean.csv")
