"""Flows for tests of transitions: jobs by name, edges in a word, and a hand that works them off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from apps import rows
from scenes import make_batch, state_of

from celery_flows.messaging.planning import rows_of
from celery_flows.plan import Edge, FlowCall, Node, Plan
from celery_flows.states import BRANCHES, Condition, JobState, Kind
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.add_job import Addition, add_job
from celery_flows.transitions.claim import claim
from celery_flows.transitions.enroll import Grower, Nested, NewEdge, NewJob, Share, enroll
from celery_flows.transitions.settle import complete_within, follow, settle

#: How an edge is written: "a>b", "a!b" and "a~b" say that b waits until a is complete, has failed, has ended.
MARKS: Final = {">": Condition.COMPLETE, "!": Condition.FAILURE, "~": Condition.SETTLED}

BATCH: Final = "flow"


def plan_of(edges: str, *, flows: Mapping[str, FlowCall] | None = None) -> Plan:
    """A plan, from words such as "a>b b>c d"; jobs are added in the order in which they are named."""
    plan, flows = Plan(), flows or {}
    for word in edges.split():
        mark = next((one for one in MARKS if one in word), None)
        for name in word.split(mark) if mark else [word]:
            if name not in plan.nodes:
                plan.add(node(name, flows.get(name)))
        if mark:
            before, after = word.split(mark)
            plan.edges.append(Edge(before, after, MARKS[mark]))
    return plan


def node(name: str, call: FlowCall | None = None, kind: Kind = Kind.TASK) -> Node:
    """A job of a plan, whose id is its name."""
    if call is not None:
        return Node(name, Kind.BATCH, call.flow, name=name, call=call)
    # A name that begins with "join" is one.
    kind = Kind.JOIN if name.startswith("join") else kind
    return Node(name, kind, "" if kind == Kind.JOIN else "shop.score", "[1]", name=name)


def inner(events: Iterable[str] = (), **more: Any) -> FlowCall:
    """A flow for use as a job of another."""
    return FlowCall(
        "shop.Inner", "workflow", "shop.plan", callbacks=tuple((e, "shop.tell") for e in events), **more
    )


def start(database: Database, edges: str | Plan, *, batch: str = BATCH, flows: Any = None, **options: Any) -> str:
    """Enroll a flow that runs."""
    plan = edges if isinstance(edges, Plan) else plan_of(edges, flows=flows)
    make_batch(database, id=batch, kind="workflow", **options)
    database.transact(enroll_plan, database.tables, plan, batch, starts=True)
    return batch


def enroll_plan(
    connection: Connection, tables: Tables, plan: Plan, batch: str, *, starts: bool, grower: Grower | None = None
) -> None:
    """Write the rows of a plan."""
    rows = list(rows_of(plan, batch))
    calls = [row for row in rows if isinstance(row, NewJob)]
    waits = [row for row in rows if isinstance(row, NewEdge)]
    flows = [row for row in rows if isinstance(row, Nested)]
    share = Share(batch, sum(call.counts_in(batch) for call in calls), starts)
    enroll(connection, tables, [calls] if calls else [], [share], waits=[waits], flows=[flows], grower=grower)


def grows(database: Database, grower: str, edges: str | Plan, batch: str = BATCH) -> None:
    """Let a running job add jobs, as by a block."""
    plan = edges if isinstance(edges, Plan) else plan_of(edges)
    job = Grower(grower, f"token-{grower}", batch)
    database.transact(enroll_plan, database.tables, plan, batch, starts=False, grower=job)


def adds(
    database: Database,
    grower: str | None,
    added: str,
    after: Iterable[str] = (),
    when: Condition = Condition.COMPLETE,
    *,
    call: FlowCall | None = None,
    batch: str = BATCH,
) -> list[ReadyJob]:
    """Let a running job add a job behind others, or several, written as edges."""
    plan = plan_of(added, flows={} if call is None else {added: call})
    before, is_branch = list(after), when in BRANCHES
    job = None if grower is None else Grower(grower, f"token-{grower}", batch, is_branch=is_branch)
    first = [one for one in plan.nodes if one not in plan.waiting()]
    rows = list(rows_of(plan, batch, waits=bool(before)))
    return add_job(database, Addition(first, batch, rows, before, when, job))


def takes(database: Database, job_id: str) -> str:
    """Let a worker claim a job; the token of the claim."""
    [row] = rows(database, id=job_id)
    token = f"token-{job_id}"
    assert claim(database, job_id, row.delivery, token) is not None, f"{job_id} is {row.state}"
    return token


def ends(database: Database, job_id: str, state: JobState = JobState.COMPLETE, **more: Any) -> list[ReadyJob]:
    """Let the worker that has claimed a job settle it; what became ready by it."""
    [row] = rows(database, id=job_id)
    fenced = {"delivery": row.delivery, "token": f"token-{job_id}", "blocks": bool(row.blocks)}
    ending = Ending(job_id, state, **{**fenced, **more})
    return settle(database, ending, batch_id=row.batch_id, announces_id=row.announces_id)


def runs(database: Database, job_id: str, state: JobState = JobState.COMPLETE, **more: Any) -> list[str]:
    """Claim a job and settle it; the ids of what became ready, in order."""
    takes(database, job_id)
    return sorted(job.id for job in ends(database, job_id, state, **more))


def plans(database: Database, flow_id: str, edges: str | Plan = "", **more: Any) -> list[str]:
    """Run the planning of a nested flow; the ids of what is ready in it then, and of what became ready."""
    [row] = rows(database, batch_id=flow_id, kind=Kind.PLAN)
    takes(database, row.id)
    armed = planning_ends(database, row.id, edges if isinstance(edges, Plan) else plan_of(edges, **more))
    ready = [one.id for one in rows(database, batch_id=flow_id, state=JobState.READY)]
    return sorted({*ready, *(job.id for job in armed)})


def planning_ends(database: Database, job_id: str, plan: Plan) -> list[ReadyJob]:
    """Let the worker that plans a nested flow settle: what it planned comes with its outcome."""
    [row] = rows(database, id=job_id)

    def write(connection: Connection, tables: Tables) -> None:
        ending = Ending(row.id, JobState.COMPLETE, delivery=row.delivery, token=f"token-{job_id}")
        assert complete_within(connection, tables, ending)
        enroll_plan(connection, tables, plan, row.batch_id, starts=False)

    database.transact(write, database.tables)
    return follow(database, row.id, row.batch_id, None)


def states(database: Database, *names: str) -> str:
    """Where jobs stand, a word each."""
    return " ".join(state_of(database, name) for name in names)


def are(database: Database, state: JobState, batch: str | None = None) -> list[str]:
    """The jobs in a state, in order of id."""
    where = {"state": state} | ({} if batch is None else {"batch_id": batch})
    return [row.id for row in rows(database, **where)]


def edges_of(database: Database) -> list[tuple[str, str, bool]]:
    """All edges, with whether they are open."""
    edges = database.tables.edges
    with database.reading() as connection:
        found = connection.execute(sa.select(edges).order_by(edges.c.job_id, edges.c.dependent_id)).all()
    return [(row.job_id, row.dependent_id, bool(row.is_open)) for row in found]


def work_off(
    database: Database,
    outcomes: Mapping[str, JobState] | None = None,
    inside: Mapping[str, str | Plan] | None = None,
    choose: Callable[[Sequence[Any]], Any] = lambda ready: ready[0],
) -> list[str]:
    """Run whatever is ready, one job after another, until nothing is; their ids, plannings by their flow's."""
    ran: list[str] = []
    while ready := rows(database, state=JobState.READY):
        job = choose(ready)
        if job.kind == Kind.PLAN:
            ran.append(f"plan {job.batch_id}")
            plans(database, job.batch_id, (inside or {}).get(job.batch_id, ""))
        else:
            ran.append(job.id if job.batch_id else f"{job.event} of {job.announces_id}")
            runs(database, job.id, (outcomes or {}).get(job.id, JobState.COMPLETE))
    return ran
