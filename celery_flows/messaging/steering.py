"""Cancelling and retrying a batch: the transition, and what the broker and the workers are told after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celery_flows.messaging.publisher import chunked
from celery_flows.messaging.runtime import Runtime
from celery_flows.store import reopening
from celery_flows.store.publishing import ReadyJob
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.release import release_all
from celery_flows.transitions.reopen import Mode, reopen


def cancel_batch(runtime: Runtime, batch_id: str, *, terminate: bool) -> None:
    """Cancel a batch and what is inside it, and end what runs too, if asked to."""
    cancelled = cancel(runtime.database, batch_id)
    runtime.publisher.publish(cancelled.ready)
    if terminate:
        runtime.publisher.after_commit(lambda: _end_running(runtime, cancelled.running))


def _end_running(runtime: Runtime, running: Iterable[str]) -> None:
    for ids in chunked(running, runtime.settings.chunk_size):
        runtime.app.control.revoke(ids, terminate=True)


def retry_batch(runtime: Runtime, batch_id: str, mode: Mode) -> None:
    """Open a new round of a batch and publish its jobs."""
    for reopened in reopen(runtime.database, batch_id, mode):
        runtime.publisher.publish(_ready(runtime, reopened))
        runtime.publisher.publish(release_all(runtime.database, reopened))
        # Nothing may have been left to run again.
        runtime.publisher.publish(advance(runtime.database, reopened))


def _ready(runtime: Runtime, batch_id: str) -> Iterator[ReadyJob]:
    after, size, database = "", runtime.settings.chunk_size, runtime.database
    while True:
        with database.reading() as connection:
            chunk = reopening.ready_after(connection, database.tables, batch_id, after, size)
        yield from chunk
        if len(chunk) < size:
            return
        after = chunk[-1].id
