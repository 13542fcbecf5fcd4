"""Celery's signals that end a job."""

from __future__ import annotations

from typing import Any

from celery import current_app, signals
from celery.exceptions import NotRegistered

from celery_flows.messaging.gate import leave
from celery_flows.messaging.header import HEADER, Delivery
from celery_flows.messaging.outcomes import report_later
from celery_flows.messaging.runtime import attached_to
from celery_flows.states import JobState


def connect() -> None:
    """Listen; connecting twice is connecting once."""
    signals.worker_process_init.connect(_on_pool_process, weak=False, dispatch_uid="celery_flows.pool_process")
    signals.task_postrun.connect(_on_postrun, weak=False, dispatch_uid="celery_flows.postrun")
    signals.task_revoked.connect(_on_revoked, weak=False, dispatch_uid="celery_flows.revoked")
    signals.task_unknown.connect(_on_unknown, weak=False, dispatch_uid="celery_flows.unknown")
    signals.task_rejected.connect(_on_rejected, weak=False, dispatch_uid="celery_flows.rejected")


def _on_pool_process(**_: Any) -> None:
    # A child that was forked has this from its parent, one that was spawned has not.
    runtime = attached_to(current_app._get_current_object())
    if runtime is not None:
        runtime.is_worker = True


def _on_postrun(task: Any, state: str | None, retval: Any, **_: Any) -> None:
    headers = task.request.headers
    if headers and HEADER in headers:
        leave(task, state, retval)


def _on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    delivery = Delivery.read(getattr(request, "headers", None))
    if delivery is not None:
        reason = "expired" if expired else "terminated" if terminated else "revoked"
        report_later(sender.app, delivery, JobState.CANCELLED, reason)


def _on_unknown(sender: Any, message: Any, name: str, **_: Any) -> None:
    _refuse(sender, message, NotRegistered(name))


def _on_rejected(sender: Any, message: Any, exc: BaseException | None, **_: Any) -> None:
    _refuse(sender, message, exc or ValueError("the message has an unknown form"))


def on_decode_error(app: Any, message: Any, error: BaseException) -> None:
    """A message's body can't be read: Celery sends no signal for it."""
    delivery = Delivery.read(message.headers)
    if delivery is not None:
        report_later(app, delivery, JobState.FAILED, error)


def _refuse(consumer: Any, message: Any, error: BaseException) -> None:
    delivery = Delivery.read(message.headers)
    if delivery is not None:
        report_later(consumer.app, delivery, JobState.FAILED, error)
