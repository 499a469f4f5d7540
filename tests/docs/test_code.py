"""The code of docs/, run as it stands."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_code_of_the_page_runs(here, capsys):
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "python_api.md").read_text(), re.DOTALL):
        exec(block, scope)
    assert scope["run"].report_path.is_file()
    assert len(scope["forecast"]) == 12
    assert len(scope["table"]) == 2
    assert scope["ratios"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_the_notebook_runs_and_shows_runs_and_a_forecast(here, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "src"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # where it is set, a notebook shows no picture
    notebook = nbformat.read(DOCS / "example.ipynb", as_version=4)
    place = {"metadata": {"path": str(here)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    assert kinds.count("text/html") == 3
