"""The choke point: every call of a task that would be published passes `app.send_task`.

`delay`, `apply_async`, signatures, groups, retries, `replace`, beat: all of it. A signal could not do
this work: Celery swallows what its receivers raise, so a message would go out whose row failed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery

from celery_flows.messaging.block import open_block
from celery_flows.messaging.call import encode_arguments, encode_options
from celery_flows.messaging.claims import Claim, current_claim
from celery_flows.messaging.header import HEADER
from celery_flows.messaging.runtime import Runtime, attach
from celery_flows.transitions.retry_job import NextAttempt, retry_job


def install(app: Celery) -> Runtime:
    """Put the choke point into an app, and make its runtime."""
    publish_now = app.__dict__.get("send_task") or partial(_celerys_own, app)
    runtime = attach(app, publish_now)

    def send_task(name: str, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        if more:
            options |= dict(zip(_POSITIONAL, more, strict=False))
        claim = current_claim()
        if claim is not None and options.get("task_id") == claim.delivery.job_id:
            return _next_attempt(claim, name, args, kwargs, options)
        block = open_block()
        if block is not None and block.runtime is runtime:
            return block.capture(name, args, kwargs, options)
        return publish_now(name, args, kwargs, **options)

    app.send_task = send_task
    return runtime


def _celerys_own(app: Celery, *args: Any, **options: Any) -> Any:
    # Looked up at each call: tracing tools put theirs on the class, often after this was installed.
    return type(app).send_task(app, *args, **options)


#: What `Celery.send_task` takes by position after args and kwargs.
_POSITIONAL = ("countdown", "eta", "task_id", "producer", "connection", "router", "result_cls", "expires")


def _next_attempt(claim: Claim, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    """A running job sends a message under its own id: `retry`, or `replace` by one task."""
    job_id = options.pop("task_id")
    headers = {key: value for key, value in (options.get("headers") or {}).items() if key != HEADER}
    encoded = (
        *encode_arguments(name, args, kwargs),
        encode_options(name, options | {"headers": headers or None}),
    )
    delivery = claim.delivery
    attempt = NextAttempt(job_id, delivery.number, str(delivery.token), name, *encoded)
    runtime = claim.runtime
    runtime.publisher.publish(retry_job(runtime.database, attempt))
    return runtime.app.AsyncResult(job_id)
