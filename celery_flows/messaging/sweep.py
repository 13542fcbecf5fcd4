"""A pass of the sweep: publish what was not published, decide what was not decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from celery_flows.messaging.queues import is_empty
from celery_flows.messaging.repairs import repaired
from celery_flows.messaging.runtime import Runtime
from celery_flows.store.publishing import ReadyJob
from celery_flows.transitions.lease import expire
from celery_flows.transitions.recover import (
    cancel_expired,
    recover_batches,
    release_left,
    take_overdue,
    take_turn,
    take_vanished,
)

#: Batches that a pass prunes at most.
PRUNED_PER_PASS: Final = 100


@dataclass(frozen=True)
class Swept:
    """What one pass repaired."""

    #: Jobs given up because their worker is dead; some of them run again.
    lost: int
    #: Messages that the broker got, which it should have had before.
    published: int
    #: Jobs that expired before a worker claimed them.
    expired: int
    #: Batches that were decided late, by id.
    batches: tuple[str, ...]
    #: Jobs that had ended, and whose dependents were released late.
    released: int = 0


def sweep(runtime: Runtime, age: float | None = None) -> Swept:
    """Repair what a crash left behind. Safe beside other sweeps and everything else.

    Args:
        age: for how many seconds a job must have been about to be published, to count as left behind;
            None: the lease's time.
    """
    age = runtime.settings.lease_timeout if age is None else age
    lost = _give_up_the_dead(runtime)
    expired = _cancel_expired(runtime)
    released = _release(runtime, age)
    batches = _decide(runtime)
    published = _publish(runtime, "not published", _overdue(runtime, age))
    published += _publish(runtime, "gone from its queue", _vanished(runtime))
    _prune(runtime)
    return Swept(lost, published, expired, tuple(batches), released)


def _prune(runtime: Runtime) -> None:
    age = runtime.settings.retention
    if age is not None:
        # A pass shall be short: it does not wait for years of history.
        runtime.prune(age, at_most=PRUNED_PER_PASS)


def _give_up_the_dead(runtime: Runtime) -> int:
    expired = expire(runtime.database, runtime.settings.lease_timeout, runtime.loss_policy)
    for lost in expired.lost:
        done = "it runs again" if lost.is_again else "it failed"
        repaired(runtime.app, "its worker dead", done, job_ids=[lost.job_id])
    running = {lost.job_id for lost in expired.lost}
    reserved = [job.id for job in expired.ready if job.id not in running and job.announces_id is None]
    repaired(runtime.app, "in the memory of a dead worker", "it is published again", job_ids=reserved)
    runtime.publisher.publish(expired.ready)
    return len(expired.lost)


def _cancel_expired(runtime: Runtime) -> int:
    found, ready = cancel_expired(runtime.database)
    repaired(runtime.app, "expired", "cancelled it", job_ids=found)
    runtime.publisher.publish(ready)
    return len(found)


def _release(runtime: Runtime, age: float) -> int:
    found, ready = release_left(runtime.database, age)
    repaired(runtime.app, "ended, with others waiting for it", "released them", job_ids=found)
    runtime.publisher.publish(ready)
    return len(found)


def _decide(runtime: Runtime) -> list[str]:
    found, ready = recover_batches(runtime.database)
    repaired(runtime.app, "undecided", "decided it", batch_ids=found)
    runtime.publisher.publish(ready)
    return found


def _publish(runtime: Runtime, found: str, chunks: Iterator[list[ReadyJob]]) -> int:
    published = 0
    for chunk in chunks:
        taken = runtime.publisher.publish(chunk)
        published += taken
        # The broker is away: the rest can wait as well.
        if not taken:
            break
        repaired(runtime.app, found, "published it", job_ids=[job.id for job in chunk])
    return published


def _overdue(runtime: Runtime, age: float) -> Iterator[list[ReadyJob]]:
    while chunk := take_overdue(runtime.database, age, runtime.settings.chunk_size):
        yield chunk


def _vanished(runtime: Runtime) -> Iterator[list[ReadyJob]]:
    settings = runtime.settings
    return take_vanished(
        runtime.database, settings.requeue_after, settings.chunk_size, partial(is_empty, runtime.app)
    )


def sweep_in_turn(runtime: Runtime) -> Swept | None:
    """Sweep if no other process has swept in this interval; else None."""
    if not take_turn(runtime.database, runtime.settings.sweep_interval):
        return None
    return sweep(runtime)
