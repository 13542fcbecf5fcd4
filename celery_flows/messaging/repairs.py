"""Telling people about repairs: each is one log line and one signal."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from celery.utils.dispatch import Signal

logger = logging.getLogger("celery_flows.repairs")

#: Sent for each repair, with the app as sender, and: `found` (what was wrong), `done` (what was done),
#: `job_id` and `batch_id` (either may be None). As all of Celery's signals: what a receiver raises is logged.
flows_repaired: Final = Signal(name="flows_repaired", providing_args={"found", "done", "job_id", "batch_id"})


def repaired(
    app: Any, found: str, done: str, *, job_ids: Iterable[str] = (), batch_ids: Iterable[str] = ()
) -> None:
    """Tell of repairs of one sort."""
    for job_id in job_ids:
        _tell(app, found, done, job_id, None)
    for batch_id in batch_ids:
        _tell(app, found, done, None, batch_id)


def _tell(app: Any, found: str, done: str, job_id: str | None, batch_id: str | None) -> None:
    subject = f"job {job_id}" if job_id is not None else f"batch {batch_id}"
    facts = {"found": found, "done": done, "job_id": job_id, "batch_id": batch_id}
    logger.warning(
        "Repaired %s: found %s, %s.", subject, found, done, extra={f"flows_{k}": v for k, v in facts.items()}
    )
    flows_repaired.send(sender=app, **facts)
