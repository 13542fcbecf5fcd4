"""The shape of a plan: which jobs stand under which, as one would write them down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from celery_flows.plan import Edge, Plan

#: Stands before everything that waits for nothing.
ROOT = ""


@dataclass
class Place:
    """A job, and what stands under it: all that can only run once it has ended."""

    id: str
    #: What it waits for, apart from what stands above it in plain sight.
    after: list[str] = field(default_factory=list)
    #: What waits for it alone.
    branches: list[str] = field(default_factory=list)
    #: What waits for several jobs that stand under it.
    meetings: list[str] = field(default_factory=list)


class Shape:
    """Where each job of a plan stands.

    A job stands under the nearest one without which it could not be reached (its dominator, as compilers call
    it): so what runs side by side stands under what came before, and what waits for all of it comes after.
    """

    def __init__(self, plan: Plan) -> None:
        self.before: dict[str, list[Edge]] = defaultdict(list)
        for edge in plan.edges:
            self.before[edge.dependent_id].append(edge)
        self._order = plan.order()
        self._number = {ROOT: 0, **{one: number for number, one in enumerate(self._order, 1)}}
        self._above = self._dominators()
        self.places = self._arranged()

    def _dominators(self) -> dict[str, str]:
        # After Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm"; without circles one pass does.
        above = {ROOT: ROOT}
        for one in self._order:
            sources = [edge.job_id for edge in self.before[one]] or [ROOT]
            found = sources[0]
            for source in sources[1:]:
                found = self._common(above, found, source)
            above[one] = found
        return above

    def _common(self, above: dict[str, str], one: str, other: str) -> str:
        while one != other:
            if self._number[one] > self._number[other]:
                one = above[one]
            else:
                other = above[other]
        return one

    def _arranged(self) -> dict[str, Place]:
        places = {one: Place(one) for one in (ROOT, *self._order)}
        for one in self._order:
            above = places[self._above[one]]
            (above.branches if self._sources(one) == {above.id} else above.meetings).append(one)
        ends: dict[str, set[str]] = {}
        for one in (*reversed(self._order), ROOT):
            ends[one] = self._ends(places, ends, one)
        return places

    def _sources(self, one: str) -> set[str]:
        return {edge.job_id for edge in self.before[one]} or {ROOT}

    def _ends(self, places: dict[str, Place], ends: dict[str, set[str]], one: str) -> set[str]:
        """What is open at the end of what stands under a job; on the way it is noted what can't be seen."""
        place = places[one]
        below = [*place.branches, *place.meetings]
        found = ends.pop(below[0]) if place.branches else {one}
        for other in place.branches[1:]:
            found |= ends.pop(other)
        for other in place.meetings:
            sources = self._sources(other)
            if sources != found:
                places[other].after = sorted(sources, key=self._number.__getitem__)
            found -= sources
            found |= ends.pop(other)
        return found

    def upwards(self) -> Iterator[Place]:
        """All places, those that stand under another before it."""
        for one in (*reversed(self._order), ROOT):
            yield self.places[one]

    def looks(
        self, text: Callable[[str], str], more: Callable[[str], Hashable] = lambda _: None
    ) -> dict[str, int]:
        """Number what stands under each job, so that the same number means the same.

        Args:
            text: what is said of a job.
            more: what else must be the same.
        """
        found: dict[str, int] = {}
        known: dict[tuple[Hashable, ...], int] = {}
        for place in self.upwards():
            below = tuple(tuple(found[one] for one in some) for some in (place.branches, place.meetings))
            found[place.id] = known.setdefault((text(place.id), more(place.id), below), len(known))
        return found
