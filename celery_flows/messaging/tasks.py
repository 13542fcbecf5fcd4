"""Tasks of our own, registered with each app."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from celery import Celery

from celery_flows.messaging.runtime import runtime_of
from celery_flows.messaging.sweep import sweep

RECONCILE: Final = "celery_flows.reconcile"


def register(app: Celery) -> None:
    """Register our tasks with an app, without configuring or finalizing it."""

    def reconcile(self: Any) -> dict[str, Any]:
        """One pass of the sweep, for celery beat."""
        return asdict(sweep(runtime_of(self.app)))

    app.task(name=RECONCILE, shared=False, bind=True, ignore_result=True)(reconcile)
