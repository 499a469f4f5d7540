"""Names that a spreadsheet, a browser, a shell or a file system would take for something else, through a whole run."""

import html.parser
import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, SMALL
from hydra import compose, initialize_config_dir

import foretrace
from foretrace.commands import predict, train
from foretrace.config import PredictConfig, TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import UserError
from foretrace.tracking.outbox import unescape
from foretrace.workspace import Workspace

pytestmark = pytest.mark.slow
NAMES = [
    "plain", "two words", "it's \"quoted\"", "$x_1^2$", "$\\frac{", "_x", "__", "\\", "a/b", "a/../b",
    "../../up", "/etc/x", "C:\\x", ".", "..", "=1+1", "+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", "%s %d",
    "{0} {name}", "${oc.env:HOME}",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg/onload=alert(1)>", "</title><b>",
    "&lt;b&gt;", "javascript:alert(1)", "a,b", "a;b", "a:b", "a#b", "a?b=c", "a*b", "[a]", "~", "CON", "nan", "null",
    "true", "007", "1e5", "température", "e\u0301", "é", "温度", "μ±σ²", "🤖", "👩‍🔬", "case", "Case",
    "train/loss", "val/mse", "mse", "step", "forecast step", "episode", "time", "x" * 250,
]  # fmt: skip
TAGS = ["a/b: c.d_e-f", "=1+1", "<b>", "a\nb", "..", "a/../b", "/a", "a//b", "'"]


class Elements(html.parser.HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def recordings(folder, names, *, rows=150, files=4):
    """Files of smooth curves; one is named as badly as a file can be."""
    folder.mkdir(parents=True)
    for number, name in enumerate(["=1+1", '<b>$x$ "it\'s" 温度 {0}', "a & b;%s", "plain"][:files]):
        t = np.arange(rows)[:, None] / 9 + number
        columns = np.sin(t * (1 + np.arange(len(names)) / len(names)))
        pd.DataFrame(columns, columns=names).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on features with all of the names, with every picture and its page."""
    root = tmp_path_factory.mktemp("names")
    path = recordings(root / "recordings", NAMES)
    words = [
        *SMALL[2:],
        "data=files",
        f"data.path={path}/*.csv",
        "tracking.run_name='<script>alert(1)</script>'",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORETRACE_HOME", str(root))
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("train", overrides=words)
            config.tracking.tags = dict.fromkeys(TAGS, "<script>alert(1)</script>")
            train.run(config, workspace=Workspace.default())
    [run] = mlflow.MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}").search_runs(["1"])
    return root, run


def artifacts(trained):
    root, run = trained
    return root / "mlruns/artifacts" / run.info.run_id / "artifacts"


def test_a_run_on_them_ends_well_and_nothing_is_outside_its_folder(trained):
    root, run = trained
    assert run.info.status == "FINISHED"
    assert {one.name for one in root.iterdir()} <= {"recordings", "mlruns", "mlflow.db", ".cache"}


def test_tags_that_mlflow_would_not_take_are_recorded(trained):
    assert {unescape(name) for name in trained[1].data.tags} >= set(TAGS)


def test_the_record_has_the_very_names(trained):
    held = [one.dataset.schema for one in trained[1].inputs.dataset_inputs]
    assert [json.loads(schema)["features"] for schema in held] == 3 * [NAMES]


def test_the_page_shows_every_name_and_makes_no_element_of_any(trained):
    page = Elements((artifacts(trained) / "report.html").read_text())
    assert not page.tags & {"script", "svg", "b", "iframe", "object", "embed", "form", "link", "base"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name in ("src", "href") and "javascript" in value]
    assert not [name for name in NAMES if " ".join(name.split()) not in " ".join(page.text.split())]


def test_a_forecast_can_be_read_again_with_the_very_names(trained, tmp_path):
    out = tmp_path / "forecast.csv"
    words = [f"model={artifacts(trained)}", f"data.path={trained[0]}/recordings/*.csv", f"output={out}"]
    words.append("intervals=null")
    with initialize_config_dir(str(ROOT / "src/foretrace/commands"), version_base="1.3"):
        predict.run(parse(compose("predict", overrides=words), PredictConfig), workspace=Workspace.default())
    found = pd.read_csv(out, keep_default_na=False)
    assert list(found.columns)[-len(NAMES) :] == NAMES
    assert list(found.columns)[: -len(NAMES)] == ["forecast episode", "forecast forecast step"]
    assert "=1+1" in set(found["forecast episode"])


def test_the_model_knows_the_very_names(trained):
    assert list(foretrace.load(artifacts(trained)).columns) == NAMES


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_tags_without_a_name_or_with_an_endless_one_are_refused(composed, name):
    cfg = composed()
    cfg.tracking.tags = {name: "x"}
    with pytest.raises(UserError, match=r"tracking\.tags"):
        parse(cfg, TrainConfig)
