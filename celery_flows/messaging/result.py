"""What a call inside a block gives back."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final
from weakref import WeakValueDictionary

from celery import exceptions
from celery.result import AsyncResult, EagerResult

from celery_flows.errors import ResultNotReady

#: Seconds after which who waits for a result looks whether the job may still answer.
_LOOK: Final = 1.0


class EnrolledResult(AsyncResult):
    """The result of a call that is published when its block ends; from then on Celery's own.

    Waiting for it before that raises, as the wait would never end.
    """

    #: Whether the call is yet to be published; None: it was not made, or not in a block.
    _is_held: Callable[[], bool] | None = None
    #: Why the job will not answer; None: it has, or may yet.
    _failure: Callable[[], Exception | None] | None = None
    #: What an eager run gave.
    _eager: EagerResult | None = None

    def get(self, timeout: float | None = None, propagate: bool = True, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result, as Celery does; a job that is skipped, cancelled or lost has one too.

        Raises:
            ResultNotReady: the call is not published: its block is open, or waits for a commit.
            TaskRevokedError: the job was cancelled.
            ChordError: the job was skipped, as one that it waited for failed.
        """
        if self._must_hold():
            raise ResultNotReady(job_id=self.id)
        if self._eager is not None:
            return self._eager.get(timeout, propagate, *args, **kwargs)
        ends = None if timeout is None else monotonic() + timeout
        while True:
            left = _LOOK if ends is None else min(_LOOK, max(0, ends - monotonic()))
            try:
                return super().get(left, propagate, *args, **kwargs)
            except exceptions.TimeoutError:
                # The job itself may have raised it.
                failure = None if self._cache or self._failure is None else self._failure()
                if self._cache or (failure is None and ends is not None and monotonic() >= ends):
                    raise
            if failure is not None:
                return self._given_up(failure, propagate, *args, **kwargs)

    def _given_up(self, failure: Exception, propagate: bool, *args: Any, **kwargs: Any) -> Any:
        try:
            # A worker tells the backend first, and then us: it may know more by now.
            return super().get(0.01, propagate, *args, **kwargs)
        except exceptions.TimeoutError:
            if propagate:
                raise failure from None
            return failure

    # Celery's older name for it.
    wait = get

    def _get_task_meta(self) -> Any:
        return super()._get_task_meta() if self._eager is None else self._eager._get_task_meta()

    def _must_hold(self) -> bool:
        return self._is_held is not None and self._eager is None and self._is_held()

    @property
    def supports_native_join(self) -> bool:
        """Whether a group may wait for all at once; inside the block each must say that it can't be waited for.

        One that waits for others may be skipped, which the backend is not told.
        """
        is_plain = not self._must_hold() and self._eager is None and self.parent is None
        return is_plain and bool(super().supports_native_join)


#: Results of calls in blocks that somebody still has, by task id.
_results: WeakValueDictionary[str, EnrolledResult] = WeakValueDictionary()


def expect(task_id: str, app: Any, **options: Any) -> EnrolledResult:
    """Make a result inside a block, before its call: a group gives back those that it made first."""
    result = _results[task_id] = EnrolledResult(task_id, app=app, **options)
    return result


def hold(
    task_id: str, app: Any, is_held: Callable[[], bool], failure: Callable[[], Exception | None]
) -> EnrolledResult:
    """The result of a call that a block holds back."""
    result = _results.get(task_id) or expect(task_id, app)
    result._is_held, result._failure = is_held, failure
    return result


def deliver(task_id: str, found: EagerResult) -> None:
    """Give what an eager run gave to whoever made the call."""
    result = _results.pop(task_id, None)
    if result is not None:
        result._eager = found
