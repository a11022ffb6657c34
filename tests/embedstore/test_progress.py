"""The progress bar: silent when asked, a line now and then in a log, redrawn in place elsewhere."""

from __future__ import annotations

import sys

import pytest

from embedstore import progress
from embedstore.progress import progress_bar


@pytest.mark.parametrize("widgets", [None, object()])
def test_it_gives_the_items_and_says_what_is_done(capsys, monkeypatch, widgets):
    monkeypatch.setattr(progress, "find_spec", lambda _: widgets)
    assert list(progress_bar(range(3), "counting", show=True, unit="sheep")) == [0, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("counting: 100%", "3/3", "sheep"):
        assert words in shown.err


def test_it_shows_nothing_when_asked(capsys):
    with progress_bar(None, "counting", show=False, total=2) as bar:
        bar.update()
        bar.set_postfix_str("x")
    assert capsys.readouterr() == ("", "")


def test_it_goes_on_from_what_was_there(capsys):
    with progress_bar(None, "counting", show=True, total=4, initial=2) as bar:
        bar.update(2)
    shown = capsys.readouterr().err
    assert "50%" in shown
    assert "4/4" in shown


@pytest.mark.parametrize(("terminal", "every"), [(True, 0.2), (False, 5.0)])
def test_a_log_gets_few_lines(capsys, monkeypatch, terminal, every):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar(range(10), "counting", show=True) as bar:
        assert bar.mininterval == every
    monkeypatch.setitem(sys.modules, "ipykernel", object())  # as in Jupyter, which is no terminal
    with progress_bar(range(10), "counting", show=True) as bar:
        assert bar.mininterval == 0.2
