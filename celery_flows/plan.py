"""Plans: what a flow's jobs are and which waits for which, made once and then frozen."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from celery_flows.codec import LONGEST_KEY, is_key
from celery_flows.errors import PlanInvalid
from celery_flows.ids import new_id
from celery_flows.states import BRANCHES, WHEN, Condition, Kind, Takes

#: Of the frozen form.
VERSION: Final = 1


@dataclass(frozen=True)
class FlowCall:
    """A flow to be planned in a worker when its turn comes; what `SomeFlow.s(...)` gives."""

    #: Its class, by module and name.
    flow: str
    #: Its kind, such as "orchestration".
    kind: str
    #: The task that plans it.
    task: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: How its planning is called: queue, countdown and what else `apply_async` takes.
    options: dict[str, Any] = field(default_factory=dict)
    #: Its callbacks: events, with the tasks that are called.
    callbacks: tuple[tuple[str, str], ...] = ()
    #: Where these run; None: as the setting callback_queue, or their own routes, say.
    callback_queue: str | None = None
    #: How much may go wrong in it.
    tolerate: str = "0"
    #: What becomes of its lost jobs, "fail" or "retry"; None: as the settings say.
    on_loss: str | None = None
    #: Whether its data is its own, rather than that of the flow that it is part of.
    owns_memory: bool = False

    def set(self, **options: Any) -> FlowCall:
        """The same call with other options, as a signature's `set`."""
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True)
class Node:
    """One job of a plan. Texts are as they are stored."""

    id: str
    kind: Kind
    #: Name of the task; of a nested flow, its class.
    task: str
    args: str = "[]"
    kwargs: str = "{}"
    options: str = "{}"
    #: What others know it by; unique in its plan.
    name: str | None = None
    #: Whether others may read its result by its name.
    is_read: bool = False
    #: Where it ends a part of several: the jobs with which that part begins.
    begins: tuple[str, ...] = ()
    #: Whether results come before its arguments: of one job, or of several as a list.
    takes: Takes | None = None
    #: ISO 8601, with its offset.
    expires_at: str | None = None
    #: For a nested flow: what is to be planned.
    call: FlowCall | None = None

    @property
    def label(self) -> str:
        """What people should read."""
        return self.name or self.task or "join"


class Edge(NamedTuple):
    """One job waits for another."""

    job_id: str
    dependent_id: str
    condition: Condition = Condition.COMPLETE
    #: Where the result stands among those that the dependent takes; None: it takes none.
    position: int | None = None


class Plan:
    """Nodes in the order in which they were planned, and edges between them."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []

    def add(self, node: Node) -> Node:
        """Add a job."""
        self.nodes[node.id] = node
        return node

    def connect(
        self,
        before: Iterable[str],
        after: Iterable[str],
        condition: Condition = Condition.COMPLETE,
        *,
        takes: Takes | None = None,
    ) -> None:
        """Let jobs wait for others, each for all of them.

        Of N on M that are N + M edges, over a join that itself is no call.

        Args:
            takes: how the results of `before`, in their order, come before the arguments of `after`.
        """
        sources = list(before)
        dependents = [one for node_id in after for one in self.nodes[node_id].begins or (node_id,)]
        condition = heard(condition, [self.nodes[one] for one in sources if one in self.nodes])
        if len(sources) > 1 and len(dependents) > 1:
            join = self.add(Node(new_id(), Kind.JOIN, "", takes=takes))
            self._connect(sources, join.id, condition, takes)
            sources, condition = [join.id], Condition.COMPLETE
            takes = Takes.ONE if takes else None
        for dependent in dependents:
            self._connect(sources, dependent, condition, takes)

    def _connect(self, sources: Sequence[str], dependent: str, condition: Condition, takes: Takes | None) -> None:
        for position, source in enumerate(sources):
            self.edges.append(Edge(source, dependent, condition, position if takes else None))
        if takes and dependent in self.nodes:
            self.nodes[dependent] = replace(self.nodes[dependent], takes=takes)

    def sinks(self) -> list[str]:
        """The jobs that nothing waits for."""
        before = {edge.job_id for edge in self.edges}
        return [one for one in self.nodes if one not in before]

    def waiting(self) -> set[str]:
        """The jobs that wait for others."""
        return {edge.dependent_id for edge in self.edges}

    def branches(self) -> set[str]:
        """The jobs that run only if something goes wrong, and those that wait for them."""
        if not any(edge.condition in BRANCHES for edge in self.edges):
            return set()
        before: dict[str, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            before[edge.dependent_id].append(edge)
        found: set[str] = set()
        for one in self.order():
            if any(edge.condition in BRANCHES or edge.job_id in found for edge in before[one]):
                found.add(one)
        return found

    def check(self) -> None:
        """See that it can be run.

        Raises:
            PlanInvalid: it has a cycle, a name twice or one that can't be stored, or a job of another plan.
        """
        names = Counter(node.name for node in self.nodes.values() if node.name is not None)
        for name in names:
            if not (is_key(name) and name):
                raise PlanInvalid(problem=f"{name!r} is no name: a text of 1 to {LONGEST_KEY} characters is")
        twice = [name for name, number in names.items() if number > 1]
        if twice:
            raise PlanInvalid(problem=f"two jobs are named {twice[0]!r}, and a name must be unique in its flow")
        for edge in self.edges:
            for end in (edge.job_id, edge.dependent_id):
                if end not in self.nodes:
                    raise PlanInvalid(problem=f"a job waits for one that is not of this plan ({end})")
        circle = self._circle()
        if circle:
            raise PlanInvalid(problem="jobs wait for one another in a circle: " + " → ".join(circle))

    def order(self) -> list[str]:
        """The jobs so that each comes after those that it waits for; those of a circle are left out."""
        after: dict[str, list[str]] = defaultdict(list)
        open_edges = Counter(edge.dependent_id for edge in self.edges)
        for edge in self.edges:
            after[edge.job_id].append(edge.dependent_id)
        due, found = deque(one for one in self.nodes if not open_edges[one]), list[str]()
        while due:
            found.append(due.popleft())
            for dependent in after[found[-1]]:
                open_edges[dependent] -= 1
                if not open_edges[dependent]:
                    due.append(dependent)
        return found

    def __repr__(self) -> str:
        return f"<Plan: {len(self.nodes):,} nodes, {len(self.edges):,} edges>"

    def _circle(self) -> list[str]:
        """The labels of jobs that wait for one another, the first again at the end."""
        left = set(self.nodes) - set(self.order())
        if not left:
            return []
        before = {
            edge.dependent_id: edge.job_id for edge in self.edges if {edge.job_id, edge.dependent_id} <= left
        }
        path = [next(iter(before))]
        while path[-1] not in path[:-1]:
            path.append(before[path[-1]])
        circle = path[path.index(path[-1]) :]
        return [self.nodes[one].label for one in reversed(circle)]

    def to_dict(self) -> dict[str, Any]:
        """The frozen form: plain data for JSON."""
        nodes = [
            {"id": one.id, "kind": str(one.kind), "task": one.task, "name": one.name}
            for one in self.nodes.values()
        ]
        edges = [[edge.job_id, edge.dependent_id, str(edge.condition)] for edge in self.edges]
        return {"version": VERSION, "nodes": nodes, "edges": edges}


def heard(condition: Condition, before: Iterable[Node]) -> Condition:
    """How jobs must end for a condition to be met, where some of them end a part of several."""
    # What fails inside a part may be any of it; its end then never has its turn.
    is_of_a_part = condition is Condition.FAILURE and any(one.begins for one in before)
    return Condition.MISSED if is_of_a_part else condition


def condition_of(when: str, after: object) -> Condition:
    """What end of a job is waited for.

    Args:
        after: what was said of whose end it is.

    Raises:
        PlanInvalid: there is no such condition, or it is nobody's.
    """
    if when not in WHEN:
        allowed = ", ".join(f'"{one}"' for one in WHEN)
        raise PlanInvalid(problem=f"when={when!r} is none of {allowed}")
    if after is None and when != Condition.COMPLETE:
        raise PlanInvalid(problem=f"when={when!r} needs after=, the job that is to end so")
    return Condition(when)
