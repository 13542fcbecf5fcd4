"""A call that was caught on its way out, as a node: what a block enrolls, and what a plan is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_flows.ids import new_id
from celery_flows.messaging.call import encode_arguments, encode_options, expiry
from celery_flows.messaging.given import check_length, check_names, task_on_loss
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import Node
from celery_flows.states import Kind


def node_of(
    runtime: Runtime, task: str, args: Any, kwargs: Any, options: Mapping[str, Any], name: str | None = None
) -> Node:
    """Store a call.

    Raises:
        NotJson: an argument or option can't be stored.
        InvalidSetting: the task's own on_loss is none.
        TooLong: a name does not fit.
    """
    task_on_loss(runtime.app._tasks.get(task))
    options = _lineage(runtime, options) | {key: value for key, value in options.items() if value is not None}
    job_id = options.pop("task_id", None) or new_id()
    check_names(task, options)
    check_length(f"The task id of a call of {task}", job_id)
    expires_at = options["expires"] = expiry(options)
    encoded = (*encode_arguments(task, args, kwargs), encode_options(task, options))
    return Node(job_id, Kind.TASK, task, *encoded, name=name, expires_at=expires_at)


def _lineage(runtime: Runtime, options: Mapping[str, Any]) -> dict[str, Any]:
    # As Celery does when it publishes, which here is later and elsewhere.
    app = runtime.app
    parent = app.current_worker_task
    if parent is None:
        return {}
    request = parent.request
    found = {"root_id": request.root_id or request.id, "parent_id": request.id}
    if app.conf.task_inherit_parent_priority and "priority" not in options:
        found["priority"] = request.delivery_info.get("priority")
    return found
