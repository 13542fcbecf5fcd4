"""Messages that this worker has received and not begun: they die with it, unseen by the broker for long."""

from __future__ import annotations

from typing import Any, NamedTuple

from celery.worker import state

from celery_flows.messaging.header import Delivery


def reserved_jobs() -> dict[str, int]:
    """The jobs whose messages wait in this process, by id, with their delivery numbers."""
    return {delivery.job_id: delivery.number for delivery in _waiting()}


def waiting_with_room(size: int) -> set[Delivery]:
    """What waits here although fewer tasks run than the pool has places for; nothing where all are taken."""
    waiting = _waiting()
    return set(waiting) if len(_snapshot(state.active_requests)) < size else set()


def _waiting() -> list[Delivery]:
    requests = _snapshot(state.reserved_requests) - _snapshot(state.active_requests)
    found = (Delivery.read(request.request_dict) for request in requests)
    return [delivery for delivery in found if delivery is not None and not delivery.is_part]


def tokens() -> set[str]:
    """What names the deliveries that this process has, whether they wait or run."""
    # Before 5.7, Celery forgets what runs among what it has received when it loses its broker.
    here = _snapshot(state.reserved_requests) | _snapshot(state.active_requests)
    found = (Delivery.read(request.request_dict) for request in here)
    return {delivery.token for delivery in found if delivery is not None and delivery.token is not None}


class Running(NamedTuple):
    """A job that a process of this worker runs."""

    delivery: Delivery
    task: Any


def running_jobs() -> dict[str, Running]:
    """The jobs that this worker runs, by the tokens of their deliveries."""
    found = ((Delivery.read(request.request_dict), request.task) for request in _snapshot(state.active_requests))
    return {
        delivery.token: Running(delivery, task)
        for delivery, task in found
        if delivery is not None and delivery.token is not None and not delivery.is_part
    }


def _snapshot(requests: Any) -> set[Any]:
    # The consumer's thread changes the set while this one reads it.
    for _ in range(10):
        try:
            return set(requests)
        except RuntimeError:
            continue
    return set()
