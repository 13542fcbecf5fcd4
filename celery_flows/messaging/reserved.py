"""Messages that this worker has received and not begun: they die with it, unseen by the broker for long."""

from __future__ import annotations

from typing import Any

from celery.worker import state

from celery_flows.messaging.header import Delivery


def reserved_jobs() -> dict[str, int]:
    """The jobs whose messages wait in this process, by id, with their delivery numbers."""
    waiting = _snapshot(state.reserved_requests) - _snapshot(state.active_requests)
    found = (Delivery.read(request.request_dict) for request in waiting)
    return {
        delivery.job_id: delivery.number for delivery in found if delivery is not None and not delivery.is_part
    }


def tokens() -> set[str]:
    """What names the deliveries that this process has, whether they wait or run."""
    found = (Delivery.read(request.request_dict) for request in _snapshot(state.reserved_requests))
    return {delivery.token for delivery in found if delivery is not None and delivery.token is not None}


def _snapshot(requests: Any) -> set[Any]:
    # The consumer's thread changes the set while this one reads it.
    for _ in range(10):
        try:
            return set(requests)
        except RuntimeError:
            continue
    return set()
