import re

import pytest

from foretrace.reports.console import Table
from foretrace.reports.page import Picture, Section, render

EVIL = '<script>alert(1)</script>"&'


@pytest.fixture
def page():
    table = Table(EVIL, (EVIL, "b"), ((EVIL, EVIL),))
    pictures = (Picture("data:image/png;base64,iVBORw", caption=EVIL, alt=EVIL),)
    folded = (Section(EVIL, text=(EVIL,)),)
    section = Section(EVIL, text=(EVIL,), tables=(table,), pictures=pictures, folded=folded)
    return render(EVIL, verdict=[EVIL], good=False, sections=[section])


def test_no_name_runs_in_the_page(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 14  # wherever it was given, as text
    assert "default-src 'none'" in page


def test_page_needs_nothing_but_itself(page):
    assert set(re.findall(r'(?:src|href)="([a-z#]+)', page)) == {"data", "#s"}
    assert "http://" not in page
    assert "https://" not in page
    assert "data:image/png;base64" in page


def test_folded_section_is_shown_on_a_click(page):
    assert page.count("<details>") == page.count("</details>") == 1


def test_good_and_bad_news_look_different():
    assert 'class="verdict"' in render("t", verdict=["fine"], good=True, sections=[])
    assert 'class="verdict bad"' in render("t", verdict=["no"], good=False, sections=[])
