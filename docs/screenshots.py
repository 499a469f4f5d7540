"""MLflow's pages of a run as README.md shows them: ``python docs/screenshots.py <run id>`` writes docs/images/ui_*.png.

The run is one of this checkout; those in docs/images were made by ::

    python src/train.py trainer.max_epochs=10 model.hidden_sizes=[64,64]
    python src/train.py -m trainer.max_epochs=3 data.episodes=20 model.hidden_sizes=[32],[64] seed=1,2

It takes an installed Chromium.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
COLUMNS = ("val/mse", "test/mse", "skill")  # what a reader would choose in the menu "Columns"
CURVES = "^(MSE train loss|val/mse|val/l1)$"
# MLflow keeps the choice of columns in the browser; and on a first visit a panel covers a quarter of the window.
FIRST_VISIT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
const key = 'MLflowLocalStorage-1.1-ExperimentPage-["%s"]-ReactComponentState';
if (!localStorage.getItem(key)) localStorage.setItem(key, JSON.stringify({selectedColumns: %s}));
"""


@contextmanager
def mlflow_ui(checkout: Path) -> Iterator[str]:
    """The address of an ``mlflow ui`` that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=checkout, start_new_session=True, **quiet)  # noqa: S603 - of our own words
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@contextmanager
def browser_page(*, experiment: str = "1", width: int = 1280) -> Iterator[Page]:
    """A page of a browser that was never here before."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 640})
        page.set_default_timeout(60_000)
        columns = json.dumps([f"metrics.`{name}`" for name in COLUMNS])
        page.add_init_script(FIRST_VISIT % (experiment, columns))
        yield page
        browser.close()


def open_runs(page: Page, server: str, *, experiment: str = "1") -> None:
    """The table of runs; MLflow 3 shows its GenAI page instead unless the address says otherwise."""
    page.goto(f"{server}#/experiments/{experiment}?workflowType=machine_learning")
    page.locator(".ag-row").get_by_role("link").first.wait_for()


def open_children(page: Page, parent: str) -> None:
    """The rows of a sweep's jobs below that of their parent."""
    page.locator(".ag-row").filter(has_text=parent).get_by_role("button").last.click()


def open_curves(page: Page, server: str, run_id: str, *, search: str = "", experiment: str = "1") -> None:
    """The curves of a run, of names that match a search."""
    page.goto(f"{server}#/experiments/{experiment}/runs/{run_id}/model-metrics?workflowType=machine_learning")
    page.get_by_placeholder("Search metric charts").fill(search)


def open_artifact(page: Page, server: str, run_id: str, path: str, *, experiment: str = "1") -> None:
    """A file of a run."""
    page.goto(
        f"{server}#/experiments/{experiment}/runs/{run_id}/artifacts/{path}?workflowType=machine_learning"
    )
    page.get_by_text(Path(path).name).first.wait_for()


def main(run_id: str) -> None:
    """Writes the pictures."""
    with mlflow_ui(ROOT) as server, browser_page() as page:
        open_runs(page, server)
        open_children(page, "sweep of")
        save(page, "ui_runs", height=520)
        open_curves(page, server, run_id, search=CURVES)
        save(page, "ui_curves", height=1060)
        open_artifact(page, server, run_id, "report.html")
        page.get_by_text(re.compile("^Path: ")).evaluate(
            "line => line.remove()"
        )  # of whoever makes the picture
        save(page, "ui_report")


def save(page: Page, name: str, *, height: int = 640) -> None:
    """Writes what the window shows once it stands still."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.wait_for_timeout(6000)
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
