"""The choke point: every call of a task that would be published passes `app.send_task`.

`delay`, `apply_async`, signatures, groups, retries, `replace`, beat: all of it. A signal could not do
this work: Celery swallows what its receivers raise, so a message would go out whose row failed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery

from celery_flows.messaging.attempt import claim_of, publish_next
from celery_flows.messaging.block import open_block
from celery_flows.messaging.runtime import Runtime, attach
from celery_flows.messaging.wrapping import wrap_canvas


def install(app: Celery) -> Runtime:
    """Put the choke point into an app, and make its runtime."""
    publish_now = app.__dict__.get("send_task") or partial(_celerys_own, app)
    runtime = attach(app, publish_now)

    def send_task(name: str, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        if more:
            options |= dict(zip(_POSITIONAL, more, strict=False))
        claim = claim_of(runtime, options)
        if claim is not None:
            publish_next(claim, name, args, kwargs, options)
            return app.AsyncResult(claim.delivery.job_id)
        block = open_block()
        if block is not None and block.runtime is runtime:
            return block.capture(name, args, kwargs, options)
        return publish_now(name, args, kwargs, **options)

    app.send_task = send_task
    wrap_canvas()
    return runtime


def _celerys_own(app: Celery, *args: Any, **options: Any) -> Any:
    # Looked up at each call: tracing tools put theirs on the class, often after this was installed.
    return type(app).send_task(app, *args, **options)


#: What `Celery.send_task` takes by position after args and kwargs.
_POSITIONAL = ("countdown", "eta", "task_id", "producer", "connection", "router", "result_cls", "expires")
