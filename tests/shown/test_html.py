"""HTML for notebooks: well formed, escaped, and without anything from elsewhere."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from celery_flows.shown import html
from celery_flows.shown.colours import COLOURS
from celery_flows.states import BatchState, JobState

BAD = "<script src='x'>&\"</script>"
CONTROL = "\x1b[31m\x00\ud800"


def test_what_users_wrote_is_escaped() -> None:
    """As text, as an attribute and in tables: a browser reads it as it was written."""
    whole = html.card(
        html.title("Batch", BAD, BAD),
        html.facts(BAD, html.state(BAD)),
        html.table([BAD], [[BAD]], BAD),
        html.element("i", title=BAD),
    )
    read = ElementTree.fromstring(whole)
    assert "".join(read.itertext()).count(BAD) == 7
    assert read.find("i[@title]").get("title") == BAD  # type: ignore[union-attr] # it is there
    assert not read.findall(".//script")


def test_what_steers_a_terminal_has_no_place_there() -> None:
    """Nor in XML: each such character is shown as one that can't be."""
    read = ElementTree.fromstring(html.element("i", f"a{CONTROL}\nb", title=CONTROL))
    assert (read.text, read.get("title")) == ("a\ufffd[31m\ufffd\ufffd\nb", "\ufffd[31m\ufffd\ufffd")


def test_a_bar_says_what_it_shows() -> None:
    """To those who can't see it too; what is none has no part in it."""
    read = ElementTree.fromstring(html.bar({"complete": 1_500, "failed": 500, "cancelled": 0}, 4_000))
    assert (read.get("role"), read.get("aria-label")) == ("img", "1,500 complete, 500 failed")
    assert [part.get("style", "").partition(";")[0] for part in read] == ["width:37.5000%", "width:12.5000%"]
    assert ElementTree.fromstring(html.bar({"complete": 0}, 0)).get("aria-label") == "nothing"


def test_a_table_without_what_is_nowhere() -> None:
    """A column in which nothing stands is left out."""
    read = ElementTree.fromstring(html.table(["job", "name", "error"], [["a", "", "x"], ["b", "", ""]]))
    assert [one.text for one in read.iter("th")] == ["job", "error"]
    assert [one.text for one in read.iter("td")] == ["a", "x", "b", None]


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("state", [*JobState, *BatchState])
def test_colours_stand_out(state: str) -> None:
    """Every state has a colour, of 3:1 at least on white and on near-black (WCAG 1.4.11)."""
    own = _luminance(COLOURS[state])
    white, dark = _luminance("#ffffff"), _luminance("#111418")
    assert min((white + 0.05) / (own + 0.05), (own + 0.05) / (dark + 0.05)) >= 3
