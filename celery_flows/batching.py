"""Batching tasks: one large job, broken into slices."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import getattr_static
from types import FunctionType
from typing import Any, ClassVar

from celery_flows.errors import PlanInvalid
from celery_flows.flow import Flow
from celery_flows.messaging.block import Block
from celery_flows.messaging.context import within
from celery_flows.messaging.methods import check_runs, check_takes
from celery_flows.preview import Preview


class BatchingTask(Flow):
    """A large job in one class: `split` breaks it into slices, and `process` is run for each of them as a job.

    Its handlers (on_complete, on_failure, on_settled) say what comes then. Slices are enrolled in one
    transaction with the outcome of `split`, so that each is there once, whatever crashes.
    """

    flow_kind: ClassVar[str] = "batching"
    abstract: ClassVar[bool] = True
    #: Celery's options for the task that `process` is, such as autoretry_for, acks_late and time_limit.
    process_options: ClassVar[dict[str, Any]] = {}
    _planner: ClassVar[str] = "split"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.abstract:
            cls._share_method("process", cls.process, **cls.process_options)

    @classmethod
    def _check(cls) -> None:
        super()._check()
        for name in ("split", "process"):
            if getattr(cls, name) is getattr(BatchingTask, name):
                raise PlanInvalid(problem=f"{cls.__name__} has no method {name}, which every batching task needs")
        process = getattr_static(cls, "process")
        if isinstance(process, FunctionType):
            check_runs(cls, "process", process)
            check_takes(cls, "process", process, "part")

    def split(self, *args: Any, **kwargs: Any) -> Iterable[Any]:
        """Give the slices, best as a generator: each is what one call of `process` gets.

        What it takes is what `start` and `delay` are called with.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to split")

    def process(self, part: Any) -> Any:
        """Do one slice."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to process a slice")

    def _enroll(self, block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        process = self._runtime.app.tasks[self._task_name("process")]
        options = {} if self.queue is None else {"queue": self.queue}
        # What user's own code calls is not a slice.
        for part in self.split(*args, **kwargs):
            with within(block):
                process.apply_async((part,), **options)
        return None

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for part in self.split(*args, **kwargs):
            self._recorder.call(self._task_name("process"), (part,), {})

    @classmethod
    def preview(cls, /, *args: Any, **kwargs: Any) -> Preview:
        """Split, and run nothing: a job for each slice."""
        return super().preview(*args, **kwargs)
