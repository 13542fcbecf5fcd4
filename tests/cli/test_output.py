"""What commands say: JSON for programs, text and tables for people."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import click
import pytest
from commands import here

from celery_flows.cli import JSON
from celery_flows.cli.consent import see_consent
from celery_flows.cli.output import Column, Output, coloured, cut, encodable, lines, printable, width

COLUMNS = [
    Column("STATE", lambda one: one["state"], is_state=True),
    Column("DONE", lambda one: one["done"], is_number=True),
    Column("DESCRIPTION", lambda one: one["description"], gives_way=True),
]

RECORDS = [
    {"state": "complete", "done": 7, "description": "Rescore leaderboard 42, and then a few more"},
    {"state": "failed", "done": 1000, "description": None},
]


def output(*, is_json: bool = False, obj: Any = None) -> Output:
    """The output of a command."""
    context = click.Context(click.Command("list"), obj=obj)
    context.meta[JSON] = is_json
    return Output(context)


def on_terminal(patch: pytest.MonkeyPatch) -> None:
    """Let the output go to a terminal that is 40 wide."""
    patch.delenv("NO_COLOR", raising=False)
    patch.setenv("COLUMNS", "40")
    patch.setattr(sys.stdout, "isatty", lambda: True)


def test_json_is_an_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Moments in UTC, and nothing that would end a line early."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    out = output(is_json=True)
    out.say({"at": moment, "text": "a\nb\u2028", "inside": {"at": moment.astimezone(UTC)}}, "not said")
    out.table(RECORDS, COLUMNS)
    out.note("not said")
    said = capsys.readouterr()
    first, *rest = said.out.splitlines()
    at = "2026-01-02T02:04:05Z"
    assert json.loads(first) == {"at": at, "text": "a\nb\u2028", "inside": {"at": at}}
    assert ([json.loads(one) for one in rest], said.err) == (RECORDS, "")


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it goes to no terminal it is as wide as it needs, and without colours."""
    output().table(RECORDS, COLUMNS)
    assert capsys.readouterr().out.splitlines() == [
        "STATE     DONE  DESCRIPTION",
        "complete     7  Rescore leaderboard 42, and then a few more",
        "failed    1000  -",
    ]


def test_a_table_is_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that gives way is cut, and states have their colours."""
    on_terminal(monkeypatch)
    output().table(RECORDS, COLUMNS)
    title, first, _ = capsys.readouterr().out.splitlines()
    assert click.unstyle(first) == "complete     7  Rescore leaderboard 42,…"
    assert (width(click.unstyle(first)), coloured("complete") in first) == (40, True)
    assert title != click.unstyle(title)


def test_what_there_is_no_room_for_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the columns that may go, the last goes first, and no more than have to; elsewhere all stay."""
    on_terminal(monkeypatch)
    kind = Column("KIND", lambda _: "batch", may_go=True)
    tags = Column("TAGS", lambda _: "red, green", gives_way=True, may_go=True)
    output().table(RECORDS, [*COLUMNS, kind, tags])
    output().table(RECORDS, [COLUMNS[0], kind, tags, *COLUMNS[1:]])
    monkeypatch.setenv("COLUMNS", "30")
    output().table(RECORDS, [*COLUMNS, kind, tags])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    output().table(RECORDS, [*COLUMNS, kind, tags])
    lines = [click.unstyle(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.split() for line in lines[::3]] == [
        ["STATE", "DONE", "DESCRIPTION", "KIND"],
        ["STATE", "KIND", "DONE", "DESCRIPTION"],
        ["STATE", "DONE", "DESCRIPTION"],
        ["STATE", "DONE", "DESCRIPTION", "KIND", "TAGS"],
    ]
    assert (max(map(width, lines[:6])), max(map(width, lines[6:9]))) == (40, 30)


def test_without_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves them away, and so does Celery's --no-color; an empty NO_COLOR says nothing."""
    on_terminal(monkeypatch)
    output(obj=SimpleNamespace(no_color=True)).table(RECORDS, COLUMNS)
    monkeypatch.setenv("NO_COLOR", "1")
    output().table(RECORDS, COLUMNS)
    plain = capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "")
    output().table(RECORDS, COLUMNS)
    assert (plain == click.unstyle(plain), "\x1b[" in capsys.readouterr().out) == (True, True)


def test_the_commands_are_told_in_whole_sentences() -> None:
    """The list of them, on a terminal of 80, cuts none off."""
    lines = here("--help").out.splitlines()
    told = lines[lines.index("Commands:") + 1 :]
    assert ([line for line in told if line.endswith("...")], len(told) > 15) == ([], True)


def test_a_column_that_may_be_left_away(capsys: pytest.CaptureFixture[str]) -> None:
    """It is there where something stands in it."""
    tags = Column("TAGS", lambda one: one.get("tags"), is_optional=True)
    output().table(RECORDS, [COLUMNS[0], tags])
    output().table([*RECORDS, {"state": "failed", "tags": "red"}], [COLUMNS[0], tags])
    titles = [line for line in capsys.readouterr().out.splitlines() if "STATE" in line]
    assert [title.split() for title in titles] == [["STATE"], ["STATE", "TAGS"]]


def test_nothing_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even a title."""
    output().table([], COLUMNS)
    assert capsys.readouterr().out == ""


def test_users_texts_steer_no_terminal() -> None:
    """What is not printable is escaped, and a line stays a line."""
    assert printable("a\x1b[31m\nb\t\x07 \u202eü") == "a\\x1b[31m b \\x07 \\u202eü"
    assert lines("a\nb\x00") == ["a", "b\\x00"]
    assert encodable("ü…", SimpleNamespace(encoding="ascii")) == "\\xfc\\u2026"


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("four", 4, "four"),
        ("fours", 4, "fou…"),
        ("漢字", 4, "漢字"),
        ("漢字表", 4, "漢…"),
        ("e\u0301a", 2, "e\u0301a"),
    ],
)
def test_texts_are_cut_by_the_places_they_take(text: str, most: int, shown: str) -> None:
    """Wide characters take two, those that stand on others none."""
    assert cut(text, most) == shown
    assert width(shown) <= most


def test_nobody_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal --yes is needed, and the error says so."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    see_consent("Drop all", yes=True)
    with pytest.raises(click.UsageError, match=r"Drop all\? Nobody is at a terminal to be asked: say --yes\."):
        see_consent("Drop all", yes=False)


@pytest.mark.parametrize(("answer", "is_meant"), [("y", True), ("n", False), ("", False)])
def test_asked(monkeypatch: pytest.MonkeyPatch, answer: str, *, is_meant: bool) -> None:
    """On a terminal somebody is asked, and what is not a yes is a no."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click.termui, "visible_prompt_func", lambda _: answer)
    if is_meant:
        see_consent("Drop all", yes=False)
    else:
        with pytest.raises(click.Abort):
            see_consent("Drop all", yes=False)
