"""Asking the broker about a queue."""

from __future__ import annotations

from celery import Celery

from celery_flows.store.forking import at_work


def is_empty(app: Celery, queue: str) -> bool:
    """Whether a queue holds no message that waits for a worker; one that does not exist holds none."""
    with at_work(object()), app.connection_for_read() as connection, connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count) == 0
        except connection.channel_errors:
            return True
