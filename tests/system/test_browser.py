"""What a user sees of a sweep and its runs in a real browser: MLflow's pages, and the report by itself."""

import importlib.util
from types import ModuleType

import mlflow
import pytest
from helpers import ROOT, SMALL, new_checkout, train

pytestmark = pytest.mark.browser


def _screenshots() -> ModuleType:
    """The script that makes the pictures of README.md: it opens these very pages."""
    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "docs" / "screenshots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ui = _screenshots()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout with a sweep of two jobs, three epochs each."""
    root = new_checkout(tmp_path_factory.mktemp("browser") / "checkout")
    done = train(root, "-m", *SMALL, "trainer.max_epochs=3", "seed=1,2")
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def server(place):
    with ui.mlflow_ui(place) as address:
        yield address


@pytest.fixture
def page():
    with ui.browser_page() as page:
        yield page


@pytest.fixture(scope="module")
def runs(place):
    """The parent, and its children by name."""
    found = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}").search_runs(["1"])
    [parent] = [run for run in found if "best_child" in run.data.tags]
    return parent, {run.info.run_name: run for run in found if run is not parent}


@pytest.fixture(scope="module")
def child(runs):
    return next(iter(runs[1].values()))


def test_the_experiment_lists_runs_with_their_columns(server, page, runs):
    parent, _ = runs
    ui.open_runs(page, server)
    table = page.get_by_role("grid")
    for column in ("Run Name", "Created", "Duration", *ui.COLUMNS):
        assert table.get_by_role("columnheader", name=column, exact=True).first.is_visible(), column
    page.get_by_text(f"{parent.data.metrics['test/mse']:.8f}"[:9]).first.wait_for()
    assert page.get_by_text("3 matching runs").is_visible()


def test_the_parent_of_a_sweep_opens_to_its_children(server, page, runs):
    parent, children = runs
    ui.open_runs(page, server)
    page.get_by_role("link", name=parent.info.run_name).wait_for()
    assert page.get_by_role("link", name=next(iter(children))).count() == 0
    ui.open_children(page, parent.info.run_name)
    for name in children:
        page.get_by_role("link", name=name).wait_for()


def test_curves_are_there_under_their_names(server, page, child):
    page.set_viewport_size({"width": 1280, "height": 1400})  # MLflow draws what is in sight
    ui.open_curves(page, server, child.info.run_id, search=ui.CURVES)
    for name in ("MSE train loss", "val/mse", "val/l1"):
        page.get_by_text(f"{child.info.run_name} ({name})").wait_for()
        assert child.data.metrics[name] > 0
    assert page.locator(".js-plotly-plot").count() == 3


def test_figures_and_the_report_open(server, page, place, child):
    run_id = child.info.run_id
    figures = place / "mlruns" / "artifacts" / run_id / "artifacts" / "figures"
    names = sorted(path.name for path in figures.glob("*.png"))
    ui.open_artifact(page, server, run_id, f"figures/{names[0]}")
    picture = page.locator("img[src^=blob], img[src*=artifact]").first
    picture.wait_for()
    assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 300
    page.get_by_text("report.html", exact=True).click()
    report = page.frame_locator("iframe").first
    report.get_by_role("heading", name="One step ahead").wait_for()
    assert report.get_by_text("skill").first.is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_by_itself_is_whole_on_phones_and_desktops(page, place, child, width):
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((place / "mlruns" / "artifacts" / child.info.run_id / "artifacts" / "report.html").as_uri())
    decode = "async image => { image.loading = 'eager'; await image.decode(); return image.naturalWidth }"
    widths = [image.evaluate(decode) for image in page.locator("img").all()]
    assert len(widths) > 5
    assert min(widths) > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
