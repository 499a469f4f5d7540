import re
from dataclasses import replace

import pytest

from foretrace.config.data import Windowing
from foretrace.data.sources import WindowDataModule
from foretrace.data.splits import Splits
from foretrace.reports import console


def test_columns_never_run_together():
    rows = [["a", "123456789.123", "1"], ["a very long name of a layer", "-1.5e+30", "123,456,789"]]
    lines = console.Table("", ["", "persistence", "gradient boosting"], rows).text().splitlines()
    assert {len(re.split(r" {2,}", line.strip())) for line in lines[1:]} == {3}
    assert len({len(line) for line in lines}) == 1


def test_data_are_told_with_covariates_and_what_was_lost(waves):
    lost = replace(waves, notes={"rows": 900, "rows left out": 12, "gaps in time": 0})
    parts = Splits(train=lost, valid=waves, test=None, test_missing="none was given")
    told = console.data(
        "files", WindowDataModule(parts, Windowing(window=10, stride=10, batch_size=4, random_offset=False))
    )
    assert "2 features (left, right); time step 0.1 s" in told
    assert "900 rows; 12 rows left out" in told
    assert "gaps" not in told


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_that_is_wider_than_the_terminal_goes_on_below(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    heading = ["steps", *(f"baseline {n}" for n in range(9))]
    lines = console.Table("", heading, [["1", *map(str, range(9))]]).text(indent="  ").splitlines()
    assert all(len(line) <= columns for line in lines)
    shown = [cell for row in lines[1::2] for cell in row.split()[1:]]
    assert shown == list("012345678")
