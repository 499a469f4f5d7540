"""What is shown while something takes minutes."""

import sys

import pytest

from foretrace.data import progress
from foretrace.data.progress import show_progress, track


@pytest.mark.parametrize(("shown", "terminal"), [(False, True), (True, True), (True, False)])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys, shown, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(progress, "DELAY_S", 0)
    monkeypatch.setattr(progress, "EVERY_S", -1)
    with show_progress(shown):
        assert list(track(range(3), "testing")) == [0, 1, 2]
    told = capsys.readouterr().err
    assert ("testing: 2/3\n" in told) == (shown and not terminal)
    assert ("0/3" in told and "\r" in told) == (shown and terminal)
    assert list(track(range(3), "testing")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
