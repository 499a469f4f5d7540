"""The code of docs/python_api.md, run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/python_api.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs(here, capsys):
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, scope)
    assert scope["run"].report_path.is_file()
    assert len(scope["forecast"]) == 12
    assert len(scope["table"]) == 2
    assert scope["ratios"]
