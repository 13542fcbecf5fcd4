"""What a call inside a block gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from celery.result import AsyncResult, EagerResult

from celery_flows.errors import ResultNotReady


class EnrolledResult(AsyncResult):
    """The result of a call that is published when its block ends; from then on Celery's own.

    Waiting for it before that raises, as the wait would never end.
    """

    #: Whether the call is yet to be published; None: it was not made, or not in a block.
    _is_held: Callable[[], bool] | None = None
    #: What an eager run gave.
    _eager: EagerResult | None = None

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result, as Celery does.

        Raises:
            ResultNotReady: the call is not published: its block is open, or waits for a commit.
        """
        if self._must_hold():
            raise ResultNotReady(job_id=self.id)
        return super().get(*args, **kwargs) if self._eager is None else self._eager.get(*args, **kwargs)

    # Celery's older name for it.
    wait = get

    def _get_task_meta(self) -> Any:
        return super()._get_task_meta() if self._eager is None else self._eager._get_task_meta()

    def _must_hold(self) -> bool:
        return self._is_held is not None and self._eager is None and self._is_held()

    @property
    def supports_native_join(self) -> bool:
        """Whether a group may wait for all at once; inside the block each must say that it can't be waited for."""
        return not self._must_hold() and self._eager is None and bool(super().supports_native_join)


#: Results of calls in blocks that somebody still has, by task id.
_results: WeakValueDictionary[str, EnrolledResult] = WeakValueDictionary()


def expect(task_id: str, app: Any, **options: Any) -> EnrolledResult:
    """Make a result inside a block, before its call: a group gives back those that it made first."""
    result = _results[task_id] = EnrolledResult(task_id, app=app, **options)
    return result


def hold(task_id: str, app: Any, is_held: Callable[[], bool]) -> EnrolledResult:
    """The result of a call that a block holds back."""
    result = _results.get(task_id) or expect(task_id, app)
    result._is_held = is_held
    return result


def deliver(task_id: str, found: EagerResult) -> None:
    """Give what an eager run gave to whoever made the call."""
    result = _results.pop(task_id, None)
    if result is not None:
        result._eager = found
