"""What the worker's main process sees of a job: its delivery, and the ends that no task lives to report."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.exceptions import TimeLimitExceeded
from kombu.utils.imports import symbol_by_name

from celery_flows.messaging.header import HEADER, Delivery
from celery_flows.messaging.outcomes import lose_later, report_later
from celery_flows.messaging.runtime import attached_to
from celery_flows.states import JobState


class FlowsRequest:
    """In front of Celery's request class, or a user's own."""

    #: The message's headers, kept by Celery's own class.
    _request_dict: dict[str, Any]
    #: The app, kept by Celery's own class.
    _app: Any
    #: Whether Celery has said that it was revoked.
    _already_revoked: bool
    _was_requeued = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        delivery = Delivery.read(self._request_dict)
        if delivery is not None:
            runtime = attached_to(self._app)
            lease = runtime.lease if runtime is not None else None
            received = delivery.received(lease.id if lease is not None else None)
            # In a copy: the message's own headers may be sent on.
            self._request_dict = {**self._request_dict, HEADER: received.write()}

    def reject(self, requeue: bool = False) -> None:
        """Note whether the broker will bring the message again."""
        # After a hard time limit Celery says it twice; the second time does nothing.
        if requeue and not self.acknowledged:  # type: ignore[attr-defined] # Celery's
            self._was_requeued = True
        super().reject(requeue=requeue)  # type: ignore[misc] # Celery's

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """Give up a job whose pool process died; all others report themselves."""
        try:
            return super().on_failure(exc_info, *args, **kwargs)  # type: ignore[misc] # Celery's
        finally:
            error = getattr(exc_info.exception, "exc", exc_info.exception)
            # Since billiard 4.3 a process that a signal ends says so itself.
            is_gone = isinstance(error, (WorkerLostError, SystemExit))
            if is_gone and not self._already_revoked:
                self._lose(error)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """End a job whose hard time limit passed, or give it up where its message comes again."""
        try:
            return super().on_timeout(soft, timeout)  # type: ignore[misc] # Celery's
        finally:
            if not soft:
                error = TimeLimitExceeded(timeout)
                self._lose(error) if self._was_requeued else self._fail(error)

    @property
    def _comes_again(self) -> bool:
        """Whether Celery means the message to be run again; a late acknowledgement alone does not say so."""
        return self._was_requeued or getattr(self.task, "retry_on_worker_lost", False)  # type: ignore[attr-defined]

    def _lose(self, error: BaseException) -> None:
        delivery = Delivery.read(self._request_dict)
        if delivery is not None and delivery.is_part:
            report_later(self._app, delivery, JobState.FAILED, error)
        elif delivery is not None:
            lose_later(self._app, delivery, f"{type(error).__name__}: {error}", bears_again=self._comes_again)

    def _fail(self, error: BaseException) -> None:
        delivery = Delivery.read(self._request_dict)
        if delivery is not None:
            report_later(self._app, delivery, JobState.FAILED, error)


@lru_cache
def request_class(own: Any) -> type:
    """A request class with `FlowsRequest` in front of a task's own, given as a class or by its dotted name."""
    base = symbol_by_name(own)
    return base if issubclass(base, FlowsRequest) else type(base.__name__, (FlowsRequest, base), {})
