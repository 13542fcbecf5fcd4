"""The words in which things are shown."""

from __future__ import annotations

import pytest
from printing import pretty

from celery_flows.ids import new_id
from celery_flows.shown import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"),
        (0.9, "just now"),
        (1, "1 s ago"),
        (2.25, "2.2 s ago"),
        (12.4, "12 s ago"),
        (99, "99 s ago"),
        (150, "2 min ago"),
        (7_200, "2 h ago"),
        (86_400 * 12, "12 d ago"),
    ],
)
def test_ago(seconds: float, said: str) -> None:
    """An age is a number that one can picture, and never two units."""
    assert words.ago(seconds) == said


def test_a_span_that_is_none() -> None:
    """A length of time may be nothing, where an age is just now."""
    assert words.span(0) == "0 s"


def test_short_ids_of_one_process_differ() -> None:
    """Made one after another, they are told from one another by what is shown of them."""
    ids = [new_id() for _ in range(100)]
    assert len({words.short(one) for one in ids}) == 100
    assert all(one.startswith(words.short(one)) for one in ids)


def test_other_ids_are_shown_whole() -> None:
    """What a user chose is no UUID, and its beginning may say nothing."""
    assert words.short("invoice-2026-11-28-customer-0000017") == "invoice-2026-11-28-customer-0000017"


def test_a_text_is_cut_to_one_line() -> None:
    """Whatever a user wrote, it stays on its line."""
    assert words.cut("two\n  lines") == "two lines"
    assert words.cut("red \x1b[31m") == "red \ufffd[31m"
    assert words.cut("x" * 61) == "x" * 59 + "…"
    assert words.quoted("it's") == '"it\'s"'


def test_a_call() -> None:
    """As one would write it."""
    assert words.call_of("shop.score", [7, "a"], {"mode": None}) == "shop.score(7, 'a', mode=None)"
    assert words.call_of("shop.score", ["x" * 100], {}) == f"shop.score('{'x' * 58}…)"


class Thing:
    """Shows itself in IPython."""

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        words.pretty(printer, "Thing", ["red", "large"])


def test_lines_where_there_is_no_room() -> None:
    """IPython decides where a line ends, and things stand below one another inside of others."""
    assert pretty(Thing()) == "<Thing: red, large>" == words.in_brackets("Thing", ["red", "large"])
    assert pretty([Thing(), Thing()], breaks=True).splitlines() == [
        "[<Thing:",
        "   red,",
        "   large>,",
        " <Thing:",
        "   red,",
        "   large>]",
    ]
