"""Where boxes stand: after what they wait for, beside one another, with few crossings, whatever the graph."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_flows.shown.layout import Layout, Size, lay_out

SIZE = Size(20, 100)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[tuple[str, str]]]:
    """Boxes of any size, in any order, and arrows between them that go in no circle."""
    number = draw(st.integers(0, 14))
    sizes = [Size(draw(st.integers(1, 60)), draw(st.integers(1, 200))) for _ in range(number)]
    pairs = list(combinations(range(number), 2))
    arrows = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
    order = draw(st.permutations(range(number)))
    return {str(one): sizes[one] for one in order}, [(str(one), str(other)) for one, other in arrows]


def crossings(layout: Layout, arrows: list[tuple[str, str]]) -> int:
    """How often straight arrows between the same two ranks cross."""
    ends = [(layout.places[one], layout.places[other]) for one, other in arrows]
    return sum(
        (one.across - other.across) * (end.across - other_end.across) < 0
        for (one, end), (other, other_end) in combinations(ends, 2)
        if (one.along, end.along) == (other.along, other_end.along)
    )


@settings(max_examples=100, deadline=None)
@given(graph=graphs())
def test_any_graph(graph: tuple[dict[str, Size], list[tuple[str, str]]]) -> None:
    """No two boxes touch, arrows go forward, and everything lies within the size."""
    sizes, arrows = graph
    layout = lay_out(sizes, arrows)
    assert layout.places.keys() == sizes.keys()
    for one, other in combinations(sizes, 2):
        at, there = layout.places[one], layout.places[other]
        is_beside = abs(at.across - there.across) > (sizes[one].across + sizes[other].across) / 2
        is_behind = abs(at.along - there.along) > (sizes[one].along + sizes[other].along) / 2
        assert is_beside or is_behind, f"{one} and {other} touch"
    for (one, other), path in zip(arrows, layout.paths, strict=True):
        assert (path[0], path[-1]) == (layout.places[one], layout.places[other])
        assert all(before.along < after.along for before, after in pairwise(path))
    for one, size in sizes.items():
        at = layout.places[one]
        assert size.across / 2 - 0.01 <= at.across <= layout.size.across - size.across / 2 + 0.01
        assert size.along / 2 <= at.along <= layout.size.along - size.along / 2 + 0.01


def test_a_tree_has_no_crossings() -> None:
    """However its boxes were named in the first place."""
    arrows = [("root", "b"), ("root", "a"), ("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")]
    layout = lay_out(dict.fromkeys(["root", "a", "b", "b1", "a1", "b2", "a2"], SIZE), arrows)
    assert crossings(layout, arrows) == 0


def test_what_is_before_several_stands_over_their_middle() -> None:
    """And a row of boxes, each after one other, is straight."""
    arrows = [("top", "a"), ("top", "b"), ("top", "c"), ("a", "d"), ("b", "d"), ("c", "d"), ("d", "e")]
    places = lay_out(dict.fromkeys(["top", "a", "b", "c", "d", "e"], SIZE), arrows).places
    assert places["top"].across == places["b"].across == places["d"].across == places["e"].across
    assert places["a"].across < places["b"].across < places["c"].across


def test_what_is_after_one_stands_under_it() -> None:
    """Also at the side, where its rank has nothing else."""
    arrows = [("top", "a"), ("top", "b"), ("top", "c"), ("a", "x"), ("x", "y")]
    places = lay_out(dict.fromkeys(["top", "a", "b", "c", "x", "y"], SIZE), arrows).places
    assert abs(places["x"].across - places["a"].across) < 20
    assert abs(places["y"].across - places["x"].across) < 20


def test_a_long_arrow_goes_around_what_is_between() -> None:
    """It passes beside the boxes of the ranks that it crosses."""
    sizes = dict.fromkeys(["a", "b", "c"], SIZE)
    layout = lay_out(sizes, [("a", "b"), ("b", "c"), ("a", "c")])
    _, into, out, _ = layout.paths[2]
    assert into.across == out.across
    assert abs(into.across - layout.places["b"].across) > SIZE.across / 2
    assert (into.along, out.along) == (layout.places["b"].along - 10, layout.places["b"].along + 10)


def test_very_many_long_arrows() -> None:
    """Where bends would be too many, arrows go straight, and it still ends."""
    names = [str(number) for number in range(150)]
    arrows = [*pairwise(names), *((one, names[-1]) for one in names[:-2])]
    layout = lay_out(dict.fromkeys(names, SIZE), arrows)
    assert {len(path) for path in layout.paths} == {2}


def test_nothing() -> None:
    """A plan without jobs has a drawing without size."""
    assert lay_out({}, []) == Layout({}, [], Size(0.0, 0.0))
