"""A running job that adds others to its flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery_flows.errors import PlanInvalid
from celery_flows.messaging.claims import Claim, grower_here
from celery_flows.messaging.patience import committed
from celery_flows.messaging.planning import rows_of
from celery_flows.messaging.recording import Recorder
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import Node, Plan, heard
from celery_flows.states import BRANCHES, Condition
from celery_flows.store import lists
from celery_flows.transitions.add_job import Addition, add_job


def add_to_flow(
    claim: Claim,
    batch_id: str,
    call: tuple[Any, tuple[Any, ...], dict[str, Any]],
    name: str | None,
    options: Mapping[str, Any],
    after: Any,
    condition: Condition,
) -> Node:
    """Plan a call, enroll it behind jobs that are there, and publish what is due.

    Args:
        call: what is called, and its arguments by position and by name.

    Returns:
        The job; of a canvas, the one that ends it.
    """
    runtime, recorder = claim.runtime, Recorder(claim.runtime, Plan())
    node, plan = recorder.call(*call, name=name, options=options), recorder.plan
    # Who will wait for it is not known yet.
    plan.add(replace(node, is_read=name is not None))
    plan.check()
    known = _several(after)
    before = list(dict.fromkeys(_job_id(runtime, batch_id, one) for one in known))
    condition = heard(condition, [one for one in known if isinstance(one, Node)])
    grower = grower_here(runtime)
    if grower is not None:
        grower = grower._replace(is_branch=condition in BRANCHES)
    rows = list(rows_of(plan, batch_id, runtime.settings.callback_queue, waits=bool(before)))
    addition = Addition(node.begins or (node.id,), batch_id, rows, before, condition, grower)
    ready = add_job(runtime.database, addition)
    with committed(runtime, f"What was added to batch {batch_id}"):
        runtime.publisher.publish(ready)
    return node


def _several(after: Any) -> list[Any]:
    if after is None:
        return []
    return [after] if isinstance(after, (str, Node)) else list(after)


def _job_id(runtime: Runtime, batch_id: str, one: Any) -> str:
    if isinstance(one, Node):
        return one.id
    database = runtime.database
    with database.reading() as connection:
        found = lists.job_named(connection, database.tables, batch_id, str(one))
    if found is None:
        raise PlanInvalid(problem=f"after={one!r} names no job of this flow")
    return found
