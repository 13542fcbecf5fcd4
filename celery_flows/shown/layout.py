"""Where the boxes of a picture stand: in ranks, each after what it waits for, with few crossings (Sugiyama's way).

Ranks are longest paths; arrows over several ranks bend at points of their own; the order in a rank follows the
middle of what stands before and after; places are as near to that as the order allows. Lengths are along and
across: along is the direction in which arrows go.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

#: How often ranks are put in order, and how often they are moved, forth and back.
_ORDERINGS: Final = 8
_MOVES: Final = 13

#: Points at which arrows bend, in all; with more, long arrows go straight.
_BENDS: Final = 4000

#: Between two ranks, between two boxes of one, and between two arrows that pass.
_ALONG: Final = 44.0
_ACROSS: Final = 22.0
_PASSING: Final = 12.0


class Size(NamedTuple):
    """How large a box is."""

    along: float
    across: float


class Point(NamedTuple):
    """A place: of a box, its middle."""

    along: float
    across: float


@dataclass(frozen=True)
class Layout:
    """Where everything stands."""

    places: dict[str, Point]
    #: By arrow, in the order given, the points through which it goes, from box to box.
    paths: list[list[Point]]
    size: Size


def lay_out(sizes: Mapping[str, Size], arrows: Sequence[tuple[str, str]]) -> Layout:
    """Find a place for each box.

    Args:
        sizes: by box, in the order in which those of a rank are to stand, as far as it does not matter.
        arrows: what comes before what.
    """
    ranks = _ranks(sizes, arrows)
    graph = _Graph(dict(sizes), ranks)
    routes = graph.route(arrows)
    graph.put_in_order()
    across = graph.move()
    along, length = _along(graph)
    places = {one: Point(along[ranks[one]], across[one]) for one in sizes}
    paths = [graph.path(route, along, across) for route in routes]
    width = max((across[one] + sizes[one].across / 2 for one in sizes), default=0.0)
    return Layout(places, paths, Size(length, max([width, *(point.across for path in paths for point in path)])))


def _ranks(sizes: Iterable[str], arrows: Sequence[tuple[str, str]]) -> dict[str, int]:
    after: dict[str, list[str]] = defaultdict(list)
    for source, target in arrows:
        after[source].append(target)
    open_arrows = Counter(target for _, target in arrows)
    ranks = dict.fromkeys(sizes, 0)
    due = deque(one for one in ranks if not open_arrows[one])
    while due:
        one = due.popleft()
        for target in after[one]:
            ranks[target] = max(ranks[target], ranks[one] + 1)
            open_arrows[target] -= 1
            if not open_arrows[target]:
                due.append(target)
    return ranks


class _Graph:
    """Boxes and bends in their ranks, and what is next to each in the ranks beside its own."""

    def __init__(self, sizes: dict[str, Size], ranks: dict[str, int]) -> None:
        self.sizes = sizes
        self.ranks = dict(ranks)
        self.rows: list[list[str]] = [[] for _ in range(1 + max(ranks.values(), default=-1))]
        for one, rank in ranks.items():
            self.rows[rank].append(one)
        self._before: dict[str, list[str]] = defaultdict(list)
        self._after: dict[str, list[str]] = defaultdict(list)

    def route(self, arrows: Sequence[tuple[str, str]]) -> list[list[str]]:
        """Lead each arrow through the ranks that it passes."""
        spans = [self.ranks[target] - self.ranks[source] for source, target in arrows]
        bends = sum(spans) - len(spans) <= _BENDS
        return [self._route(number, *arrow, bends=bends) for number, arrow in enumerate(arrows)]

    def _route(self, number: int, source: str, target: str, *, bends: bool) -> list[str]:
        route = [source]
        for rank in range(self.ranks[source] + 1, self.ranks[target] if bends else 0):
            # No id of a job has such a character.
            bend = f"\0{number}:{rank}"
            self.sizes[bend], self.ranks[bend] = Size(0, 0), rank
            self.rows[rank].append(bend)
            route.append(bend)
        route.append(target)
        for one, other in pairwise(route):
            self._after[one].append(other)
            self._before[other].append(one)
        return route

    def path(self, route: Sequence[str], along: Sequence[float], across: Mapping[str, float]) -> list[Point]:
        """The points through which an arrow goes: past the boxes of a rank straight on."""
        points = [Point(along[self.ranks[route[0]]], across[route[0]])]
        for bend in route[1:-1]:
            rank = self.ranks[bend]
            half = self.depth(rank) / 2
            points += (Point(along[rank] - half, across[bend]), Point(along[rank] + half, across[bend]))
        return [*points, Point(along[self.ranks[route[-1]]], across[route[-1]])]

    def depth(self, rank: int) -> float:
        """How far a rank reaches."""
        return max(self.sizes[one].along for one in self.rows[rank])

    # ------------------------------------------------------------ order

    def put_in_order(self) -> None:
        """Put each rank in the order of what is next to it, and keep the order that has the fewest crossings."""
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for number in range(_ORDERINGS):
            if not fewest:
                break
            self._sweep(self._before if number % 2 == 0 else self._after, backwards=number % 2 == 1)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _sweep(self, beside: Mapping[str, list[str]], *, backwards: bool) -> None:
        place = {one: float(at) for row in self.rows for at, one in enumerate(row)}
        for row in reversed(self.rows) if backwards else self.rows:
            middle = {one: _mean([place[other] for other in beside.get(one, ())], place[one]) for one in row}
            row.sort(key=middle.__getitem__)
            place.update((one, float(at)) for at, one in enumerate(row))

    def _crossings(self) -> int:
        return sum(self._crossings_after(row, after) for row, after in pairwise(self.rows))

    def _crossings_after(self, row: list[str], after: list[str]) -> int:
        place = {one: at for at, one in enumerate(after)}
        seen, found = list[int](), 0
        for one in row:
            ends = sorted(place[other] for other in self._after[one] if other in place)
            found += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
        return found

    # ------------------------------------------------------------ places

    def move(self) -> dict[str, float]:
        """Move each rank to where what is next to it stands, in its order; where each stands across."""
        across: dict[str, float] = {}
        for row in self.rows:
            across |= self._spread(row, dict.fromkeys(row, 0.0))
        for number in range(_MOVES):
            beside = (self._before, self._after)[number % 2]
            for row in reversed(self.rows) if number % 2 else self.rows:
                both = beside if number < _MOVES - 1 else None
                across |= self._spread(row, {one: self._wanted(one, across, both) for one in row})
        left = min((across[one] - self.sizes[one].across / 2 for one in across), default=0.0)
        return {one: at - left for one, at in across.items()}

    def _wanted(self, one: str, across: Mapping[str, float], beside: Mapping[str, list[str]] | None) -> float:
        others = [*self._before[one], *self._after[one]] if beside is None else beside.get(one, [])
        return _mean([across[other] for other in others], across[one])

    def _spread(self, row: Sequence[str], wanted: Mapping[str, float]) -> dict[str, float]:
        """The places nearest to those wanted, by squares, at which nothing of a rank touches."""
        offsets, at = [0.0], 0.0
        for one, other in pairwise(row):
            at += (self.sizes[one].across + self.sizes[other].across) / 2 + self._gap(one, other)
            offsets.append(at)
        # Neighbours that would touch move together: "pool adjacent violators".
        pools: list[tuple[float, int]] = []
        for one, offset in zip(row, offsets, strict=False):
            total, number = wanted[one] - offset, 1
            while pools and pools[-1][0] / pools[-1][1] >= total / number:
                before, many = pools.pop()
                total, number = total + before, number + many
            pools.append((total, number))
        level = [total / number for total, number in pools for _ in range(number)]
        return {one: level[at] + offsets[at] for at, one in enumerate(row)}

    def _gap(self, one: str, other: str) -> float:
        return _PASSING if "\0" in (one[0], other[0]) else _ACROSS


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _along(graph: _Graph) -> tuple[list[float], float]:
    """Where the middle of each rank is, and how long all of them are."""
    found, at = list[float](), 0.0
    for rank in range(len(graph.rows)):
        size = graph.depth(rank)
        found.append(at + size / 2)
        at += size + _ALONG
    return found, max(0.0, at - _ALONG)
