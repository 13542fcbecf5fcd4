"""Drawings: well formed, escaped, of nothing from elsewhere, for any ground, and readable without eyes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from graphs import inner, node, plan_of
from plans import different, wide

from celery_flows.plan import Node, Plan
from celery_flows.shown.svg import to_svg
from celery_flows.states import JobState, Kind

SVG = "{http://www.w3.org/2000/svg}"
BAD = "<b>&\"'\x1b]]>\x00"


def read(svg: str) -> ElementTree.Element:
    """A drawing as a tree of elements."""
    return ElementTree.fromstring(svg)


def words(svg: str) -> list[str]:
    """What is written in a drawing."""
    return [one.text or "" for one in read(svg).iter(f"{SVG}text")]


def test_what_is_written() -> None:
    """The title, names over tasks, when a job runs, and where it stands."""
    plan = plan_of("manifest!alert")
    states = {"manifest": JobState.FAILED, "alert": JobState.RUNNING}
    assert words(to_svg("Gallery", plan, states)) == [
        "Gallery",
        "1 failed · 1 running",
        *("manifest", "shop.score", "failed"),
        *("alert", "shop.score", "when failure", "running"),
    ]


def test_what_users_wrote_is_escaped() -> None:
    """Wherever it stands: a browser reads it as it was written, but for what has no place in XML."""
    plan = Plan()
    plan.add(Node("a", Kind.TASK, BAD, name=f"name {BAD}"))
    svg = to_svg(BAD, plan)
    shown = BAD.replace("\x1b", "\ufffd").replace("\x00", "\ufffd")
    assert words(svg) == [shown, f"name {shown}", shown]
    assert read(svg).find(f"{SVG}title").text == shown  # type: ignore[union-attr] # it is there


def test_nothing_comes_from_elsewhere() -> None:
    """No script, no link, no picture, no font."""
    svg = to_svg("Gallery", wide(20))
    assert not re.findall(r"href|url\(|<script|<image|@import|on\w+=", svg)
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]


def test_it_can_be_read_aloud() -> None:
    """A title and a description in words, under names that two drawings on a page don't share."""
    first, other = read(to_svg("Gallery", plan_of("a>b a~c"))), read(to_svg("Gallery", plan_of("a>b")))
    assert first.get("role") == "img"
    title, description = (str(first.get("aria-labelledby")).split())[:2]
    by_id = {one.get("id"): one.text for one in first.iter()}
    assert by_id[title] == "Gallery"
    assert by_id[description] == (
        "3 jobs. a: shop.score; b: shop.score, after a: shop.score; "
        "c: shop.score, when settled, after a: shop.score."
    )
    assert first.get("aria-labelledby") != other.get("aria-labelledby")


def test_alone_and_in_a_page() -> None:
    """A file says itself what dark is; in a page it has the page's colour, and changes nothing there."""
    alone, inside = to_svg("Gallery", wide(2)), to_svg("Gallery", wide(2), is_alone=False)
    assert "prefers-color-scheme:dark" in alone
    assert read(alone).get("fill") == read(inside).get("fill") == "currentColor"
    assert "<style" not in inside


def test_states_are_told_by_colour_and_word() -> None:
    """Of several jobs in one box, each state has its share of a line."""
    plan = wide(40)
    states = dict.fromkeys(plan.nodes, JobState.COMPLETE) | {f"n{n}": JobState.FAILED for n in range(10)}
    svg = to_svg("Gallery", plan, states)
    assert "8 failed, 30 complete" in words(svg)
    shares = [one for one in read(svg).iter(f"{SVG}rect") if one.get("height") == "3"]
    first, second = (float(one.get("width", 0)) for one in shares)
    assert first / second == pytest.approx(8 / 30, rel=0.01)


def test_what_is_wide_is_laid_on_its_side() -> None:
    """Many jobs side by side stand below one another instead; a narrow plan goes down."""
    down, flat = read(to_svg("Gallery", plan_of("a>b b>c c>d d>e e>f"))), read(to_svg("Gallery", different(30)))
    assert float(down.get("height", 0)) > float(down.get("width", 0))
    assert float(flat.get("height", 0)) > float(flat.get("width", 0))


def test_a_long_name_is_cut_at_its_beginning() -> None:
    """Its end tells it from others; the whole stands in the box's title."""
    task = "shop.tasks.pictures.of.many.kinds.resize_image"
    plan = Plan()
    plan.add(Node("a", Kind.TASK, task))
    assert words(to_svg("Gallery", plan))[1] == f"…{task[-33:]}"
    assert task in [one.text for one in read(to_svg("Gallery", plan)).iter(f"{SVG}title")]


def test_a_flow_inside_has_two_frames_and_a_join_has_none() -> None:
    """So they are told from jobs."""
    plan = plan_of("a>join b>join join>c join>d")
    plan.add(node("inner", inner()))
    drawn = read(to_svg("Gallery", plan))
    assert len(list(drawn.iter(f"{SVG}circle"))) == 1
    # The ground, four jobs, and twice the flow.
    assert len(list(drawn.iter(f"{SVG}rect"))) == 1 + 4 + 2


def test_nothing_is_drawn_of_nothing() -> None:
    """A plan without jobs has a title."""
    assert words(to_svg("Gallery", Plan())) == ["Gallery"]
