"""The page and the pictures of a whole run, as a reader finds them."""

import numpy as np
import pytest
from helpers import artifacts

from foretrace.data.sequences import Sequences
from foretrace.reports.report import dates_of


@pytest.fixture(scope="module")
def page(trained_on_files):
    folder = artifacts(trained_on_files.root, trained_on_files.run_id)
    return folder, (folder / "report.html").read_text()


def test_page_names_covariates_and_what_was_done_to_the_data(page):
    assert "2 features (height, angle); 1 covariate (push); time step 0.1 s" in page[1]
    assert "rows" in page[1]


def test_inside_of_the_network_and_record_are_folded(page):
    shown = page[1].split("Inside the network</h2>")[1]
    assert shown.index("<details>") < shown.index("Gates over time")
    assert shown.index("<details>") < shown.index("Provenance")


def test_page_is_short_enough_to_be_read(page):
    open_parts = "".join(part.split("</details>")[-1] for part in page[1].split("<details>"))
    assert open_parts.count("<img") <= 6
    assert page[1].count("<img") > 6


def test_verdict_is_made_of_the_evaluation_s_sentences(page):
    verdict = page[1].split('<div class="verdict')[1].split("</div>")[0]
    assert "One step ahead, from a state of zero: skill" in verdict
    assert "Not worse than any baseline" in verdict or "Worse than" in verdict


def test_dates_are_those_of_the_first_episode_s_rows():
    times = np.arange(10) * 3_600_000_000_000
    rows = Sequences.from_episodes([np.zeros((4, 1)), np.zeros((6, 1))], feature_names=["a"])
    assert dates_of(rows, 0, 4) is None
    object.__setattr__(rows, "times", times)
    object.__setattr__(rows, "has_dates", True)
    assert [str(date)[:13] for date in dates_of(rows, 1, 9)] == [f"1970-01-01T0{hour}" for hour in (1, 2, 3)]
