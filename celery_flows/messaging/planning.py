"""A plan as rows: its jobs, their edges, and the flows inside it."""

from __future__ import annotations

from collections.abc import Iterator

from celery_flows.codec import encode
from celery_flows.ids import new_id
from celery_flows.messaging.call import encode_arguments, encode_options
from celery_flows.messaging.given import check_names
from celery_flows.plan import Edge, FlowCall, Node, Plan
from celery_flows.states import Kind
from celery_flows.transitions.create import NewBatch
from celery_flows.transitions.enroll import Nested, NewEdge, NewJob


def rows_of(
    plan: Plan, batch_id: str, callback_queue: str | None = None, *, waits: bool = False
) -> Iterator[NewJob | NewEdge | Nested]:
    """The rows of a plan in a batch.

    Args:
        callback_queue: the setting.
        waits: whether all of it waits for jobs that are there already.
    """
    waiting, before = set(plan.nodes) if waits else plan.waiting(), {edge.job_id for edge in plan.edges}
    # What runs only if something goes wrong is waited for by nobody else, who would be skipped with it.
    spare = plan.branches()
    inner = spare | {edge.job_id for edge in plan.edges if edge.dependent_id not in spare}
    feeding = {edge.job_id for edge in plan.edges if edge.position is not None}
    for node in plan.nodes.values():
        is_held, blocks = node.id in waiting, node.id in before
        keeps = node.is_read or node.id in feeding
        yield NewJob(
            node.id,
            batch_id,
            node.kind,
            node.task,
            node.args,
            node.kwargs,
            node.options,
            node.expires_at,
            node.name,
            node.takes,
            1 if keeps else None,
            1 if blocks else None,
            waits=is_held,
            is_last=node.id not in inner,
        )
        if node.call is not None:
            yield from nested_rows(node, node.call, batch_id, callback_queue, waits=is_held)
    for edge in plan.edges:
        yield new_edge(edge)


def new_edge(edge: Edge) -> NewEdge:
    """An edge as it is written."""
    return NewEdge(edge.job_id, edge.dependent_id, edge.condition, edge.position)


def nested_rows(
    node: Node, call: FlowCall, parent_id: str, callback_queue: str | None, *, waits: bool
) -> Iterator[NewJob | Nested]:
    """The batch of a flow inside another, the call that plans it, and its callbacks."""
    yield Nested(new_flow(node.id, call, parent_id), not waits)
    yield planning(call, node.id, waits=waits)
    yield from callbacks(call, node.id, callback_queue)


def new_flow(batch_id: str, call: FlowCall, parent_id: str | None, **more: object) -> NewBatch:
    """The batch of a flow, before it is a row."""
    values = {
        "id": batch_id,
        "kind": call.kind,
        "description": None,
        "context": "null",
        "tags": "[]",
        "tolerate": call.tolerate,
        "parent_id": parent_id,
        "on_loss": call.on_loss,
        "flow": call.flow,
        "owns_memory": call.owns_memory,
    }
    return NewBatch(**{**values, **more})  # type: ignore[arg-type] # as its fields are


def planning(call: FlowCall, batch_id: str, *, waits: bool = False) -> NewJob:
    """The call that plans a flow in a worker."""
    check_names(call.task, call.options)
    encoded = (*encode_arguments(call.task, call.args, call.kwargs), encode_options(call.task, call.options))
    return NewJob(new_id(), batch_id, Kind.PLAN, call.task, *encoded, waits=waits)


def callbacks(call: FlowCall, batch_id: str, callback_queue: str | None = None) -> Iterator[NewJob]:
    """The callbacks that a flow's class declares."""
    queue = call.callback_queue or callback_queue
    for event, task in call.callbacks:
        check_names(task, {"queue": queue})
        arguments = (encode([batch_id]), "{}", encode_options(task, {"task_type": True, "queue": queue}))
        yield NewJob(
            new_id(), None, Kind.CALLBACK, task, *arguments, announces_id=batch_id, event=event, waits=True
        )
