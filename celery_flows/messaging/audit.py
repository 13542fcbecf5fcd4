"""A worker's look at itself: what its lease says that it runs, against what it runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery_flows.messaging.gate import holder_of
from celery_flows.messaging.header import Delivery
from celery_flows.messaging.repairs import repaired
from celery_flows.messaging.reserved import running_jobs, tokens, waiting_with_room
from celery_flows.messaging.runtime import Runtime
from celery_flows.transitions.claim import claim
from celery_flows.transitions.lease import Missing, give_up_missing, running_under, send_again


class Audit:
    """Finds in two passes what the worker and the database don't agree about.

    Jobs that stand as running under this worker's lease, and that it does not have: their process ended between
    the outcome and its writing, and nothing told the main process. Jobs that it runs, and that do not stand
    so: a crash of the database has forgotten the claim. And messages that wait in its memory while the pool has
    room: Celery handed them to a process that never took them.
    """

    def __init__(self, size: Callable[[], int]) -> None:
        """Begin with nothing seen.

        Args:
            size: says how many tasks the pool runs at once.
        """
        self._size = size
        self._missing: set[Missing] = set()
        self._forgotten: set[str] = set()
        # Since when, by this process's clock.
        self._stuck: dict[Delivery, float] = {}

    def look(self, runtime: Runtime) -> None:
        """One pass."""
        if runtime.lease is None:
            return
        # In this order: what begins meanwhile stands as running, and what ends is no longer here.
        here, running = tokens(), running_jobs()
        known = set(running_under(runtime.database, runtime.lease.id))
        missing = {one for one in known if one.token not in here}
        forgotten = running.keys() - {one.token for one in known}
        for lost in sorted(missing & self._missing):
            self._give_up(runtime, lost)
        for token in sorted(forgotten & self._forgotten):
            self._claim_again(runtime, token)
        self._missing, self._forgotten = missing, forgotten
        self._look_at_the_pool(runtime)

    def _look_at_the_pool(self, runtime: Runtime) -> None:
        now = time.monotonic()
        self._stuck = {one: self._stuck.get(one, now) for one in waiting_with_room(self._size())}
        for delivery, since in self._stuck.items():
            # For so long, as a process may just be slow. Sent again under another number, it can't run twice.
            if now - since < runtime.settings.lease_timeout:
                continue
            ready = send_again(runtime.database, delivery.job_id, delivery.number)
            repaired(runtime.app, "stuck in its worker", "published it", job_ids=[job.id for job in ready])
            runtime.publisher.publish(ready)

    @staticmethod
    def _give_up(runtime: Runtime, lost: Missing) -> None:
        ready = give_up_missing(runtime.database, lost, runtime.loss_policy)
        repaired(runtime.app, "running, but not in its worker", "gave it up", job_ids=[lost.job_id])
        runtime.publisher.publish(ready)

    @staticmethod
    def _claim_again(runtime: Runtime, token: str) -> None:
        running = running_jobs().get(token)
        if running is None:
            return
        delivery, holder = running.delivery, holder_of(runtime, running.task, running.delivery)
        if claim(runtime.database, delivery.job_id, delivery.number, token, holder) is not None:
            repaired(runtime.app, "running, its claim forgotten", "claimed it again", job_ids=[delivery.job_id])
