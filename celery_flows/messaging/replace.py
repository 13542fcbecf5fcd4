"""A job that replaces itself by a canvas: its row waits for the task that carries its id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from celery.canvas import Signature, _chain, chord, group
from celery.exceptions import Ignore

from celery_flows.messaging import effects
from celery_flows.messaging.claims import Claim
from celery_flows.messaging.gate import end
from celery_flows.messaging.header import HEADER, Delivery
from celery_flows.messaging.patience import persistently
from celery_flows.states import JobState
from celery_flows.transitions.hand_over import hand_over


def publish_replacement(claim: Claim, signature: Signature, publish: Callable[[Signature], Any]) -> Any:
    """Publish what replaces a job, prepared to carry it; where Celery can't, the job fails.

    By then the job is handed over, so how its task ends says nothing any more.
    """
    following = _prepare(claim, signature)
    try:
        return publish(signature)
    except Exception as error:
        if following is not None and not isinstance(error, Ignore):
            persistently(claim.runtime, partial(end, claim.runtime, following, JobState.FAILED, error))
        raise


def _prepare(claim: Claim, signature: Signature) -> Delivery | None:
    """Make a replacement carry the job, before any of it is published.

    One task under the job's id needs nothing: it is captured like a retry. Of a canvas, the last task has
    the job's id and gets its next delivery; the others get to know whose part they are, so that the job
    fails with them.

    Returns:
        The delivery that the last task makes, or None for one task.
    """
    tasks = list(_leaves(signature))
    if tasks == [signature]:
        return None
    delivery = claim.delivery
    following = replace(delivery, number=delivery.number + 1, token=None)
    effects.roll_back_current()
    hand_over(claim.runtime.database, delivery.job_id, delivery.number, str(delivery.token))
    for task in tasks:
        is_last = task.options.get("task_id") == delivery.job_id
        _mark(task, replace(following, is_part=not is_last, keeps=is_last and following.keeps))
    return following


def prepare_part(part: Delivery, signature: Signature) -> None:
    """Let what replaces a part of a replacement be such a part as well."""
    for task in _leaves(signature):
        # The rest of its chain comes along, and knows already what it is.
        if HEADER not in (task.options.get("headers") or {}):
            _mark(task, replace(part, token=None))


def _mark(task: Signature, delivery: Delivery) -> None:
    task.options["headers"] = (task.options.get("headers") or {}) | {HEADER: delivery.write()}


def _leaves(signature: Any) -> Iterator[Any]:
    if isinstance(signature, chord):
        yield from _leaves(signature.tasks if isinstance(signature.tasks, group) else group(signature.tasks))
        yield from _leaves(signature.body)
    elif isinstance(signature, (_chain, group)):
        for task in signature.tasks:
            yield from _leaves(task)
    else:
        yield signature
