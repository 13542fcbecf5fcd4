"""A worker's look at itself: what its lease says that it runs, against what it runs."""

from __future__ import annotations

from celery_flows.messaging.repairs import repaired
from celery_flows.messaging.reserved import tokens
from celery_flows.messaging.runtime import Runtime
from celery_flows.transitions.lease import Missing, give_up_missing, running_under


class Audit:
    """Finds jobs that stand as running under this worker's lease, and that it has not had for two passes.

    Their process ended between the outcome and its writing, and nothing told the main process.
    """

    def __init__(self) -> None:
        self._suspects: set[Missing] = set()

    def look(self, runtime: Runtime) -> None:
        """One pass."""
        if runtime.lease is None:
            return
        here = tokens()
        missing = {one for one in running_under(runtime.database, runtime.lease.id) if one.token not in here}
        for lost in sorted(missing & self._suspects):
            ready = give_up_missing(runtime.database, lost, runtime.loss_policy)
            repaired(runtime.app, "running, but not in its worker", "gave it up", job_ids=[lost.job_id])
            runtime.publisher.publish(ready)
        self._suspects = missing
