"""Where there is a bar, and where lines stand in for it."""

from __future__ import annotations

import sys

import pytest

from celery_flows.cli.live import open_bar
from celery_flows.cli.words import age, line_of
from celery_flows.progress import Progress


@pytest.mark.parametrize("what", ["all there", "no terminal", "a dumb terminal", "no rich", "not wanted"])
def test_a_bar_takes_a_terminal_and_rich(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Without either there is none, and whoever wanted it writes lines."""
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: what != "no terminal")
    monkeypatch.setenv("TERM", "dumb" if what == "a dumb terminal" else "xterm")
    if what == "no rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with open_bar(is_wanted=what != "not wanted") as bar:
        assert (bar is not None) == (what == "all there")


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0s"), (59.9, "59s"), (3599, "59m"), (7200, "2h"), (200_000, "2d")]
)
def test_ages(seconds: float, said: str) -> None:
    """In their largest unit; a clock that is a little ahead makes nothing younger than new."""
    assert age(seconds) == said


def test_progress_in_a_line() -> None:
    """With rate and time left; a slow rate is not rounded to nothing."""
    slow = Progress(total=1247, complete=1098, failed=3, cancelled=1, pending=145, elapsed=3000)
    said = "1,102 of 1,247 jobs (88 %), 3 failed, 1 cancelled, 0.37 jobs/s, 7 min left"
    assert line_of(slow) == said
    assert line_of(slow, aside=", batches above included").count("3 failed, batches above included") == 1
    assert (
        line_of(Progress(total=1, complete=1, failed=0, cancelled=0, pending=0)) == "1 of 1 job (100 %), 0 jobs/s"
    )
