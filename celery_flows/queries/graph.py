"""The graph of a batch: which of its jobs wait for which, and where each stands."""

from __future__ import annotations

from typing import Any, Final

from celery_flows.errors import GraphTooLarge
from celery_flows.plan import Edge, FlowCall, Node, Plan
from celery_flows.preview import Preview
from celery_flows.queries.batches import BatchRecord, batch
from celery_flows.shown.words import cut, short
from celery_flows.states import Condition, JobState, Kind
from celery_flows.store import graphs
from celery_flows.store.database import Database

#: Jobs of a graph; more would take long to read, and nobody looks at them one by one.
_MOST: Final = 20_000


def graph(database: Database, batch_id: str) -> Preview:
    """Read a batch as a plan with states: what was planned, and what its jobs have added since.

    Raises:
        BatchNotFound: there is no such batch.
        GraphTooLarge: it has too many jobs.
    """
    record, plan = batch(database, batch_id), Plan()
    with database.reading() as connection:
        rows = graphs.nodes(connection, database.tables, batch_id, _MOST + 1)
        if len(rows) > _MOST:
            raise GraphTooLarge(batch_id=batch_id, most=_MOST)
        edges = graphs.edges(connection, database.tables, batch_id)
    for row in rows:
        plan.add(_node(row))
    known = (edge for edge in edges if edge.job_id in plan.nodes and edge.dependent_id in plan.nodes)
    plan.edges = [Edge(one.job_id, one.dependent_id, Condition(one.condition), one.position) for one in known]
    return Preview(_title(record), plan, {row.id: JobState(row.state) for row in rows})


def _node(row: Any) -> Node:
    if row.kind != Kind.BATCH:
        return Node(row.id, Kind(row.kind), row.task, name=row.name)
    # A child that is no flow is known by its description.
    name = row.name or (cut(row.description) if row.description else None)
    call = FlowCall(row.flow, row.child_kind, "") if row.flow else None
    return Node(row.id, Kind.BATCH, row.task or row.flow or "batch", name=name, call=call)


def _title(record: BatchRecord) -> str:
    described = f" {cut(record.description)}" if record.description else ""
    what = record.flow.rpartition(".")[2] if record.flow else record.kind
    return f"{what} {short(record.id)}{described}: {record.state}"
