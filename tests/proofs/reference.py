"""Flows drawn at random, and what must become of them: a few lines that know no database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from celery_flows.states import Condition, JobState

COMPLETE, FAILED, SKIPPED = JobState.COMPLETE, JobState.FAILED, JobState.SKIPPED


@dataclass
class Call:
    """One job: what it waits for, what becomes of it, and what it does while it runs."""

    name: str
    outcome: JobState
    #: Of a flow inside: what is in it; None: a plain job.
    inside: Drawn | None = None
    #: How many jobs it adds by a block, and a job that it adds behind others, which are picked by number.
    grows: int = 0
    adds: tuple[list[int], Condition] | None = None


@dataclass
class Drawn:
    """A flow: its jobs, and groups of which each waits for a group before it."""

    calls: list[Call]
    groups: list[tuple[list[str], list[str], Condition]]
    tolerate: int = 0
    #: Whether its planning fails.
    is_broken: bool = False

    def every(self) -> Iterator[Call]:
        """Its jobs, and those of the flows inside."""
        for call in self.calls:
            yield call
            if call.inside is not None:
                yield from call.inside.every()


@st.composite
def flows(draw: Any, prefix: str = "", depth: int = 2, most: int = 7) -> Drawn:
    """Any flow."""
    number = draw(st.integers(1, most))
    names = [f"{prefix}{one}" for one in "abcdefgh"[:number]]
    calls = [draw(_call(name, depth)) for name in names]
    # Each job is in one group at most that waits, as in a workflow.
    groups, first = [], 1
    while first < number:
        size = draw(st.integers(1, 3))
        before = draw(st.lists(st.sampled_from(names[:first]), max_size=3, unique=True))
        if before:
            groups.append((before, names[first : first + size], draw(CONDITIONS)))
        first += size
    return Drawn(calls, groups, draw(st.sampled_from([0, 0, 1, 2])), bool(prefix) and draw(st.integers(0, 5)) == 5)


CONDITIONS = st.sampled_from([Condition.COMPLETE, Condition.COMPLETE, Condition.SETTLED, Condition.FAILURE])
OUTCOMES = st.sampled_from([COMPLETE, COMPLETE, FAILED])


@st.composite
def _call(draw: Any, name: str, depth: int) -> Call:
    if depth and draw(st.integers(0, 4)) == 4:
        return Call(name, COMPLETE, draw(flows(f"{name}/", depth - 1, 3)))
    adds = st.tuples(st.lists(st.integers(0, 11), max_size=2), CONDITIONS)
    return Call(name, draw(OUTCOMES), None, draw(st.sampled_from([0, 0, 0, 1, 2])), draw(st.none() | adds))


@dataclass
class Expected:
    """What must have become of a flow."""

    states: dict[str, JobState] = field(default_factory=dict)
    #: Of the flow itself: what counts against its tolerance.
    wrong: set[str] = field(default_factory=set)
    fates: dict[str, JobState] = field(default_factory=dict)


@dataclass
class Graph:
    """Which job of a flow waits for which, as jobs that run have changed it."""

    waits: dict[str, dict[str, Condition]]

    @classmethod
    def of(cls, drawn: Drawn) -> Graph:
        """As it was planned."""
        waits: dict[str, dict[str, Condition]] = {call.name: {} for call in drawn.calls}
        for number, (before, after, condition) in enumerate(drawn.groups):
            if len(before) > 1 and len(after) > 1:
                join = f"join{number}"
                waits[join] = dict.fromkeys(before, condition)
                waits |= {one: {join: Condition.COMPLETE} for one in after}
            else:
                waits |= {one: dict.fromkeys(before, condition) for one in after}
        return cls(waits)

    @property
    def jobs(self) -> list[str]:
        """All but the joins."""
        return sorted(one for one in self.waits if not is_join(one))

    def before(self, name: str) -> set[str]:
        """The jobs that a job waits for, itself or over joins."""
        found = self.waits[name]
        joins = [self.before(one) for one in found if is_join(one)]
        return {one for one in found if not is_join(one)}.union(*joins)

    def add(self, name: str, grower: str, after: dict[str, Condition] | None = None) -> None:
        """A running job adds one: what waits for it waits for that too, but for what that waits for itself.

        A failure branch may not be needed, so any end of it will do.
        """
        self.waits[name] = dict(after or {})
        is_branch = Condition.FAILURE in self.waits[name].values()
        above = self.above(name)
        for heir, before in self.waits.items():
            if grower in before and heir not in above:
                # And what is there for a failure is so whatever becomes of what was added.
                is_any = is_branch or before[grower] is Condition.FAILURE
                before[name] = Condition.SETTLED if is_any else before[grower]

    def above(self, name: str) -> set[str]:
        """All that a job waits for, and the job."""
        found, left = {name}, [name]
        while left:
            new = set(self.waits[left.pop()]) - found
            found |= new
            left += new
        return found

    def order(self) -> list[str]:
        """Each job after those that it waits for."""
        found: list[str] = []
        while len(found) < len(self.waits):
            due = [one for one, before in self.waits.items() if one not in found and set(before) <= {*found}]
            assert due, f"jobs wait in a circle: {self.waits}"
            found += due
        return found


def is_join(name: str) -> bool:
    """Whether it is no job, but where several meet."""
    return name.startswith("join")


def expect(drawn: Drawn, name: str, graphs: dict[str, Graph], outcomes: dict[str, JobState]) -> Expected:
    """Interpret a flow that has come to its end.

    Args:
        graphs: of each flow that has begun, what waited for what at last.
        outcomes: of each job what it does when it runs.
    """
    expected, graph = Expected(), graphs[name]
    inside = {call.name: call.inside for call in drawn.calls if call.inside is not None}
    for one in graph.order():
        before = graph.waits[one]
        unmet = [other for other, condition in before.items() if not _is_met(condition, expected.states[other])]
        if unmet:
            expected.states[one] = SKIPPED
            wants = [other for other in unmet if before[other] is Condition.COMPLETE]
            if any(other in expected.wrong for other in wants):
                expected.wrong.add(one)
        else:
            expected.states[one] = (
                COMPLETE if is_join(one) else _run(inside.get(one), one, graphs, outcomes, expected)
            )
            if expected.states[one] is FAILED:
                expected.wrong.add(one)
    number = len(expected.wrong & set(graph.jobs))
    expected.fates[name] = FAILED if number > drawn.tolerate else COMPLETE
    return expected


def _is_met(condition: Condition, state: JobState) -> bool:
    return condition is Condition.SETTLED or state is {"complete": COMPLETE, "failure": FAILED}[condition]


def _run(
    inside: Drawn | None,
    name: str,
    graphs: dict[str, Graph],
    outcomes: dict[str, JobState],
    expected: Expected,
) -> JobState:
    if inside is None:
        return outcomes[name]
    if inside.is_broken:
        expected.fates[name] = FAILED
        return FAILED
    below = expect(inside, name, graphs, outcomes)
    expected.states |= {one: state for one, state in below.states.items() if not is_join(one)}
    expected.fates |= below.fates
    return below.fates[name]
