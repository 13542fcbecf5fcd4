"""Errbacks that Celery calls with a request, an error and a traceback, rather than with an id."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from celery import Celery, Signature
from celery.app.task import Context
from celery.canvas import _chain, _chord, group
from celery.utils.functional import arity_greater

from celery_flows.codec import decode
from celery_flows.messaging.call import decode_options
from celery_flows.messaging.failure import failure_of
from celery_flows.messaging.runtime import Runtime

#: The task of ours that calls them.
ERRBACK: Final = "celery_flows.errback"


def wants_error(errback: Signature, app: Celery) -> bool:
    """Whether Celery calls an errback with what went wrong: its function takes more than one argument."""
    if isinstance(errback, (_chain, _chord, group)):
        return False
    header = getattr(app.tasks.get(errback["task"]), "__header__", None)
    # Of bound tasks it is a partial one; those are called with an id.
    if header is None or isinstance(header, partial):
        return False
    if not errback.immutable and (errback.args or errback.kwargs):
        try:
            return bool(arity_greater(partial(header, *errback.args, **errback.kwargs), 1))
        except (TypeError, ValueError):
            pass
    return bool(arity_greater(header, 1))


def call_errback(runtime: Runtime, errback: dict[str, Any], job_id: str) -> None:
    """Call an errback for a job that failed, or that was skipped because a header failed."""
    row, error = failure_of(runtime, job_id)
    Signature.from_dict(errback, app=runtime.app)(_request(row), error, None)


def _request(row: Any) -> Context:
    """What Celery tells of a task that failed, as far as its row knows."""
    options = decode_options(row.options)
    return Context(
        id=row.id,
        task=row.task,
        args=decode(row.args),
        kwargs=decode(row.kwargs),
        retries=max(0, row.attempt - 1),
        root_id=options.get("root_id") or row.id,
        parent_id=options.get("parent_id"),
        group=options.get("group_id"),
        headers=options.get("headers"),
        delivery_info={"routing_key": row.queue},
        errbacks=[],
    )
