"""Tasks of our own, registered with each app."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from celery import Celery

from celery_flows.messaging.errback import ERRBACK, call_errback
from celery_flows.messaging.runtime import runtime_of
from celery_flows.messaging.sweep import sweep

RECONCILE: Final = "celery_flows.reconcile"


def register(app: Celery) -> None:
    """Register our tasks with an app, without configuring or finalizing it."""

    def reconcile(self: Any) -> dict[str, Any]:
        """One pass of the sweep, for celery beat."""
        return asdict(sweep(runtime_of(self.app)))

    def errback(self: Any, called: dict[str, Any], job_id: str) -> None:
        """Call an errback of a canvas that takes a request, an error and a traceback."""
        call_errback(runtime_of(self.app), called, job_id)

    app.task(name=ERRBACK, shared=False, bind=True, ignore_result=True)(errback)
    app.task(name=RECONCILE, shared=False, bind=True, ignore_result=True)(reconcile)
