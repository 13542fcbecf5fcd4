"""The next attempt of a running job: its row first, then its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_flows.messaging import effects
from celery_flows.messaging.call import encode_arguments, encode_options
from celery_flows.messaging.claims import Claim, current_claim
from celery_flows.messaging.header import HEADER, RETRIES, Delivery
from celery_flows.messaging.patience import persistently
from celery_flows.messaging.runtime import Runtime
from celery_flows.states import JobState
from celery_flows.transitions.retry_job import NextAttempt, retry_job


def claim_of(runtime: Runtime, options: Mapping[str, Any]) -> Claim | None:
    """The claim under whose job's id a message is about to be sent: that is its next attempt.

    It is the running task's own; or, where the worker's main process retries a task whose process died,
    the one that is named in the headers that the task was delivered with.
    """
    claim = current_claim()
    if claim is None:
        delivery = Delivery.read(options.get("headers"))
        if delivery is not None and delivery.token is not None:
            claim = Claim(runtime, delivery, 0)
    return claim if claim is not None and options.get("task_id") == claim.delivery.job_id else None


def publish_next(
    claim: Claim, name: str, args: Any, kwargs: Any, options: dict[str, Any], state: JobState = JobState.RETRYING
) -> None:
    """Write down what a running job sends under its own id, and publish it.

    Args:
        state: what the job is until it is claimed again: retrying; or ready, where its message went back.

    Raises:
        NotJson: its arguments or options can't be stored.
    """
    headers = {key: value for key, value in (options.get("headers") or {}).items() if key != HEADER}
    delivery = claim.delivery
    kept = {key: value for key, value in options.items() if key != "task_id"} | {"headers": headers or None}
    kept[RETRIES] = delivery.retries or None
    encoded = (*encode_arguments(name, args, kwargs), encode_options(name, kept))
    effects.roll_back_current()
    attempt = NextAttempt(delivery.job_id, delivery.number, str(delivery.token), name, *encoded, state)
    # An error here would cost the job its next attempt: Celery rejects what it can't retry.
    ready = persistently(claim.runtime, lambda: retry_job(claim.runtime.database, attempt))
    claim.runtime.publisher.publish(ready)
