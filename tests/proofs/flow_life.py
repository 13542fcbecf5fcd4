"""Flows from their start to their end: what users, workers and brokers may do to them, in any order."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from graphs import enroll_plan, inner, plan_of
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from proofs.life import DEATHS, MAX_JOBS, PICKS, Life
from proofs.reference import CONDITIONS
from proofs.watch import Seen, Watch
from proofs.world import Held, Mortal, World

from celery_flows.errors import BatchCancelled, BatchFinished, JobTaken
from celery_flows.messaging.planning import rows_of
from celery_flows.plan import Plan
from celery_flows.states import BRANCHES, Condition, JobState, Kind
from celery_flows.store import reopening
from celery_flows.store.database import Connection
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.add_job import Addition, add_job
from celery_flows.transitions.create import NewBatch, adopt, create
from celery_flows.transitions.enroll import Grower
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.settle import complete_within, follow

MAX_FLOWS: Final = 2

#: Shapes of flows, as edges; "sub" and "other" are flows inside.
SHAPES: Final = (
    "a>b",
    "a>c b>c",
    "a~b a!c c>d",
    "a>join b>join join>c join>d",
    "a>sub sub>b",
    "sub~a b",
    "a!sub sub>b a>c",
    "sub>join other~join join>a join>b",
    "",
)


class Fenced(Exception):  # it is no error
    """The claim was taken away meanwhile."""


@dataclass
class FlowWorld(World):
    """Workers plan flows, and see that each job's turn has come."""

    #: Of each flow inside another: what is planned in it.
    inside: dict[str, str] = field(default_factory=dict)
    #: Of each job that waited for one that added others: those.
    behind: dict[str, set[str]] = field(default_factory=dict)

    def planned(self, batch_id: str, shape: str, below: str = "") -> Plan:
        """A plan of a shape; flows in it get another shape, and flows in these none."""
        edges = re.sub(r"\w+", lambda name: f"{name[0]}-{batch_id}", shape)
        names = re.findall(r"(?:sub|other)[\w-]*", edges)
        self.inside |= dict.fromkeys(names, below)
        return plan_of(edges, flows={name: inner(["settled"]) for name in names})

    def takes(self, worker: str, job: ReadyJob) -> bool:
        """Claim it, and see that its turn has come."""
        is_taken = super().takes(worker, job)
        if is_taken:
            self._check_turn(Seen.now(self.database), job.id)
        return is_taken

    def _check_turn(self, seen: Seen, job_id: str) -> None:
        row, edges = seen.jobs[job_id], self.database.tables.edges
        with self.database.reading() as connection:
            before = connection.execute(edges.select().where(edges.c.dependent_id == job_id)).all()
        for edge in before:
            source, flow = seen.jobs[edge.job_id], seen.batches.get(edge.job_id)
            if flow is not None and flow.round > 1:
                # It was retried, maybe on its own, when what waited for it was on its way already.
                continue
            assert _is_met(Condition(edge.condition), source), f"{row} was taken before its turn: {source}"
        for added in self.behind.get(job_id, ()):
            flow = seen.batches.get(added)
            is_again = flow is not None and flow.round > 1
            assert is_again or seen.jobs[added].outcome is not None, f"{row} was taken before {seen.jobs[added]}"
        above = seen.batches.get(row.batch_id)
        if above is not None and above.round == 1 and above.id in seen.jobs:
            self._check_turn(seen, above.id)

    def reports(self, held: Held, outcome: JobState, dies_after: int | None = None) -> None:
        """Settle what was run; what was planned is enrolled with the outcome."""
        outcome = held.outcome or outcome
        if held.job.kind != Kind.PLAN or outcome is not JobState.COMPLETE:
            super().reports(held, outcome, dies_after)
            return
        held.outcome = outcome
        try:
            lived = self.does(lambda: self._plans(held), dies_after)
        except Fenced:
            lived = True
        except (BatchCancelled, BatchFinished):
            held.outcome = None
            self.reports(held, JobState.FAILED, dies_after)
            return
        if lived:
            del self.held[held.token]
        else:
            held.is_safe = False
            self.falls_silent(held.worker)

    def _plans(self, held: Held) -> Iterator[ReadyJob]:
        job = held.job
        assert job.batch_id is not None, "it plans a flow"
        plan = self.planned(job.batch_id, self.inside[job.batch_id])

        def write(connection: Connection, tables: Tables) -> None:
            ending = Ending(job.id, JobState.COMPLETE, delivery=job.delivery, token=held.token)
            if complete_within(connection, tables, ending) is None:
                raise Fenced
            enroll_plan(connection, tables, plan, str(job.batch_id), starts=False)

        self.database.transact(write, self.database.tables)
        yield from self.ready_in(job.batch_id)
        yield from follow(self.database, job.id, job.batch_id, None)

    def ready_in(self, batch_id: str) -> Iterator[ReadyJob]:
        """What is ready in a flow just written, and the plannings of flows in it."""
        seen = Seen.now(self.database)
        flows = [batch_id, *(one.id for one in seen.batches.values() if one.parent_id == batch_id)]
        for flow in flows:
            with self.database.reading() as connection:
                yield from reopening.ready_after(connection, self.database.tables, flow, "", 100)

    def _begin(self, batch_id: str) -> None:
        """A flow begins by itself."""


def _is_met(condition: Condition, source: Any) -> bool:
    if condition is Condition.SETTLED:
        return source.outcome is not None
    return bool(source.state == (JobState.FAILED if condition is Condition.FAILURE else JobState.COMPLETE))


class FlowLife(Life):
    """Flows, one inside another, growing while they run, in a world where anybody may die."""

    # Plain batches are born in `Life`.
    create = create_and_enroll_in_a_block = enroll = None
    open_block = flush_block = end_block = producer_dies = None

    def __init__(self, database: Mortal) -> None:
        super().__init__(database)
        self.world: FlowWorld = FlowWorld(database)
        self.watch = Watch(self.world)
        self.started = 0

    @initialize(shape=st.sampled_from(SHAPES), below=st.sampled_from(SHAPES), tolerate=st.sampled_from(["0", "1"]))
    def begin(self, shape: str, below: str, tolerate: str) -> None:
        self.world.begin()
        self.start(shape, below, tolerate, None, None, None)

    @precondition(lambda self: self.started < MAX_FLOWS)
    @rule(
        shape=st.sampled_from(SHAPES),
        below=st.sampled_from(SHAPES),
        tolerate=st.sampled_from(["0", "1"]),
        parent=st.none() | PICKS,
        on_loss=st.sampled_from([None, "retry"]),
        dies=DEATHS,
    )
    def start(
        self, shape: str, below: str, tolerate: str, parent: int | None, on_loss: str | None, dies: int | None
    ) -> None:
        batch_id, tops = self.new_batch_id(), [one for one in self.batches if "-" not in one]
        parent_id = self.pick(tops, parent) if parent is not None and tops else None
        values = ("workflow", None, "null", "[]", tolerate, parent_id, on_loss, "shop.Outer")
        plan, self.started = self.world.planned(batch_id, shape, below), self.started + 1

        def write(connection: Connection, tables: Tables) -> None:
            create(connection, tables, NewBatch(batch_id, *values))
            if parent_id is not None:
                adopt(connection, tables, parent_id, batch_id)
            enroll_plan(connection, tables, plan, batch_id, starts=True)

        def launch() -> Iterator[ReadyJob]:
            self.database.transact(write, self.tables)
            yield from self.world.ready_in(batch_id)
            if not plan.nodes:
                yield from advance(self.database, batch_id)

        with self.refused_only_where(parent_id):
            self.world.does(launch, dies)

    @precondition(lambda self: self.growers() and self.jobs < MAX_JOBS)
    @rule(
        number=PICKS,
        shape=st.sampled_from(["x", "x>y", "x y", "sub"]),
        after=st.lists(PICKS, max_size=2),
        condition=CONDITIONS,
        dies=DEATHS,
    )
    def add(self, number: int, shape: str, after: list[int], condition: Condition, dies: int | None) -> None:
        """A running job adds some behind others."""
        held = self.pick(self.growers(), number)
        batch_id, self.jobs = str(held.job.batch_id), self.jobs + 1
        calls = [job for job in Seen.now(self.database).of(batch_id) if job.kind in (Kind.TASK, Kind.BATCH)]
        before = sorted({self.pick(sorted(job.id for job in calls), one) for one in after})
        plan = self.world.planned(f"{self.jobs}-{batch_id}", shape)
        grower = Grower(held.job.id, held.token, batch_id, is_branch=condition in BRANCHES)
        first = [one for one in plan.nodes if one not in plan.waiting()]
        rows = list(rows_of(plan, batch_id, waits=bool(before)))
        addition = Addition(first, batch_id, rows, before, condition, grower)
        self._grows(held, plan, before, lambda: add_job(self.database, addition), dies)

    @precondition(lambda self: self.growers() and self.jobs < MAX_JOBS)
    @rule(number=PICKS, shape=st.sampled_from(["x", "x>y", "x!y", "x>sub"]), dies=DEATHS)
    def grow(self, number: int, shape: str, dies: int | None) -> None:
        """A running job adds a block of them."""
        held = self.pick(self.growers(), number)
        batch_id, self.jobs = str(held.job.batch_id), self.jobs + 1
        plan = self.world.planned(f"{self.jobs}-{batch_id}", shape)
        grower = Grower(held.job.id, held.token, batch_id)

        def block() -> Iterator[ReadyJob]:
            self.database.transact(enroll_plan, self.tables, plan, batch_id, starts=False, grower=grower)
            with self.database.reading() as connection:
                ready = reopening.ready_after(connection, self.tables, batch_id, "", 100)
            yield from (job for job in ready if job.id in plan.nodes)

        self._grows(held, plan, [], block, dies)

    def _grows(self, held: Held, plan: Plan, before: list[str], act: Any, dies: int | None) -> None:
        above, heirs = self.edges_from(before, upwards=True), self.edges_from([held.job.id])
        try:
            with self.refused_only_where(held.job.batch_id):
                if not self.world.does(act, dies):
                    self.world.falls_silent(held.worker)
        except JobTaken:
            assert not held.is_safe
        if plan.nodes.keys() <= Seen.now(self.database).jobs.keys():
            # Branches that only a failure in what was added needs are waited for by nobody.
            last = {one for one in plan.sinks() if one not in plan.branches()}
            for heir in heirs - above:
                self.world.behind.setdefault(heir, set()).update(last)

    def edges_from(self, jobs: list[str], *, upwards: bool = False) -> set[str]:
        """The jobs that wait for one of these, over joins; or these, and all that they wait for."""
        edges, seen, steps = self.tables.edges, Seen.now(self.database), defaultdict[str, set[str]](set)
        with self.database.reading() as connection:
            for edge in connection.execute(edges.select()):
                near, far = (edge.dependent_id, edge.job_id) if upwards else (edge.job_id, edge.dependent_id)
                steps[near].add(far)
        found, left = set(jobs) if upwards else set(), list(jobs)
        while left:
            new = steps[left.pop()] - found
            left += [one for one in new if upwards or seen.jobs[one].kind == Kind.JOIN]
            found |= new
        return found if upwards else {one for one in found if seen.jobs[one].kind != Kind.JOIN}

    def growers(self) -> list[Held]:
        """Who runs a job that can add others."""
        return [held for held in self.unreported() if held.job.kind == Kind.TASK]

    @invariant()
    def nothing_is_wrong(self) -> None:
        """See also which flows there are now."""
        super().nothing_is_wrong()
        self.batches[:] = sorted(Seen.now(self.database).batches)
