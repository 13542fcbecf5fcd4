"""What a call inside a block gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.result import AsyncResult, EagerResult

from celery_flows.errors import ResultNotReady


class EnrolledResult(AsyncResult):
    """The result of a call that is published when its block ends; from then on Celery's own.

    Waiting for it inside the block raises, as the wait would never end.
    """

    #: Whether the block is still open.
    _is_held: Callable[[], bool] | None = None
    #: What an eager run gave.
    _eager: EagerResult | None = None

    @classmethod
    def held(cls, task_id: str, app: Any, is_held: Callable[[], bool]) -> EnrolledResult:
        """Make the result of a call that is held back."""
        result = cls(task_id, app=app)
        result._is_held = is_held
        return result

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result, as Celery does.

        Raises:
            ResultNotReady: the block that holds the call is still open.
        """
        if self._is_held is not None and self._is_held():
            raise ResultNotReady(job_id=self.id)
        return super().get(*args, **kwargs)

    @property
    def supports_native_join(self) -> bool:
        """Whether a group may wait for all at once; inside the block each must say that it can't be waited for."""
        if self._is_held is not None and self._is_held():
            return False
        return bool(super().supports_native_join)
