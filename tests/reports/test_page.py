import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from foretrace.config import Evaluation
from foretrace.config.data import Windowing
from foretrace.data.sources import WindowDataModule
from foretrace.data.splits import Splits
from foretrace.evaluation.inside import look_inside
from foretrace.evaluation.references import fit_references
from foretrace.evaluation.result import evaluate
from foretrace.model.next_step import NextStepModel
from foretrace.reports.page import Findings, compose

EVIL = '<script>alert(1)</script>"&'


@pytest.fixture
def found(waves, tmp_path):
    """What is known about a run whose every name is an attack."""
    named = replace(waves, feature_names=(EVIL, "b"), units=(EVIL, ""), origin=EVIL, notes={EVIL: 2})
    splits = Splits(train=named, valid=named, test=named)
    cut = Windowing(window=10, stride=7, batch_size=4, random_offset=False)
    data, model = (
        WindowDataModule(splits, cut, warnings=[EVIL]),
        NextStepModel(hidden_sizes=[4], num_features=2, output="change"),
    )
    model.set_statistics(**{name: torch.from_numpy(a) for name, a in vars(waves.statistics).items()})
    settings = Evaluation(warmup=10, horizon=12)
    references = fit_references(model, train=named, valid=named, settings=settings)
    (tmp_path / "figures").mkdir()
    for name in ("gates.png", "features.png"):
        (tmp_path / "figures" / name).write_bytes(b"a picture")
    return Findings(
        title=EVIL,
        run=SimpleNamespace(folder=tmp_path, params={EVIL: EVIL}, tags={"user": EVIL}),
        model=model,
        data=data,
        references=references,
        result=evaluate(model, data.windows["test"], references, settings=settings),
        inside=replace(look_inside(model, data.windows["valid"], named), lines=(EVIL,)),
    )


def test_no_name_runs_in_the_page(found):
    page = compose(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 11  # wherever it was given, as text
    assert "default-src 'none'" in page


def test_page_needs_nothing_but_itself(found):
    page = compose(found)
    assert set(re.findall(r'(?:src|href)="([a-z]+:|#)', page)) == {"data:", "#"}
    assert set(re.findall(r'href="#([a-z-]+)', page)) == set(re.findall(r'section id="([a-z-]+)', page))
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64") == 2


def test_every_element_is_closed(found):
    for page in (compose(found), compose(replace(found, result=None))):
        for tag in ("section", "details", "figure", "table", "p", "div"):
            assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_good_and_bad_news_look_different(found):
    better = replace(found.result, open_loop=None, carried_state=None, unavailable={"open_loop": "too short"})
    errors = better.zero_state.errors
    better.zero_state.errors["model"] = replace(errors["model"], squared=errors["persistence"].squared / 9)
    assert 'class="verdict"' in compose(replace(found, result=better))
    assert "Not evaluated: too short." in compose(replace(found, result=better))
    assert 'class="verdict bad"' in compose(replace(found, result=None))
