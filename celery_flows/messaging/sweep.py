"""A pass of the sweep: publish what was not published, decide what was not decided."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from celery_flows.messaging.queues import is_empty
from celery_flows.messaging.runtime import Runtime
from celery_flows.transitions.lease import expire
from celery_flows.transitions.recover import (
    cancel_expired,
    recover_batches,
    take_overdue,
    take_turn,
    take_vanished,
)

logger = logging.getLogger(__name__)


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


def sweep(runtime: Runtime, age: float | None = None) -> Swept:
    """Repair what a crash left behind. Safe beside other sweeps and everything else.

    Args:
        age: for how many seconds a job must have been about to be published, to count as left behind;
            None: the lease's time.
    """
    age = runtime.settings.lease_timeout if age is None else age
    lost = expire(runtime.database, runtime.settings.lease_timeout, runtime.loss_policy)
    expired, ready = cancel_expired(runtime.database)
    decided, more = recover_batches(runtime.database)
    published = runtime.publisher.publish([*lost.ready, *ready, *more])
    settings = runtime.settings
    empty = partial(is_empty, runtime.app)
    for vanished in take_vanished(runtime.database, settings.requeue_after, settings.chunk_size, empty):
        published += runtime.publisher.publish(vanished)
    while overdue := take_overdue(runtime.database, age, runtime.settings.chunk_size):
        taken = runtime.publisher.publish(overdue)
        published += taken
        if not taken:
            break
    swept = Swept(len(lost.lost), published, expired, tuple(decided))
    if any((swept.lost, swept.published, swept.expired, swept.batches)):
        logger.warning(
            "The sweep gave up %d jobs of dead workers, published %d, cancelled %d expired ones and decided "
            "%d batches.",
            swept.lost,
            swept.published,
            swept.expired,
            len(swept.batches),
        )
    return swept


def sweep_in_turn(runtime: Runtime) -> Swept | None:
    """Sweep if no other process has swept in this interval; else None."""
    if not take_turn(runtime.database, runtime.settings.sweep_interval):
        return None
    return sweep(runtime)
