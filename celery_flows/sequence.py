"""Sequences: steps one after another, sharing data."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, Final

from celery_flows.errors import PlanInvalid
from celery_flows.flow import Flow
from celery_flows.messaging.block import Block
from celery_flows.messaging.given import owns_memory
from celery_flows.messaging.memory import encoded
from celery_flows.messaging.methods import check_runs, check_takes
from celery_flows.queries.jobs import named_jobs
from celery_flows.states import JobState
from celery_flows.targets import Target
from celery_flows.typed import TypedTask


class step:  # noqa: N801  # used as a declaration and as a decorator
    """A step of a sequence: `name = step(task)`, or `@step` before a method."""

    def __init__(
        self,
        target: Target | TypedTask[Any, Any] | Callable[..., Any] | None = None,
        *,
        queue: str | None = None,
        countdown: float | None = None,
        retries: int = 0,
        **options: Any,
    ) -> None:
        """Declare a step.

        Args:
            target: a task, a signature of one, a task's name, or a flow; a function: it is a method.
            queue: where it runs; None: as its task says.
            countdown: seconds that it waits once its turn has come.
            retries: how often it is tried again when it raises.
            options: anything else that `apply_async` takes.
        """
        self.target: Any = target
        self.options = {"queue": queue, "countdown": countdown, "flows_retries": retries or None, **options}
        self.name = ""

    @property
    def is_method(self) -> bool:
        """Whether it is a method of its sequence, rather than a task from elsewhere."""
        return isinstance(self.target, FunctionType) and type(self.target) is FunctionType

    def __call__(self, function: Callable[..., Any]) -> step:
        """Declare a method as a step, with options: `@step(countdown=5)`."""
        self.target = function
        return self

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None or not self.is_method:
            return self
        return self.target.__get__(instance, owner)


class Sequence(Flow):
    """Steps in the order in which the class declares them, each after the one before was complete.

    They share data, which is kept in the database and changes with each step's outcome. A step that fails
    stops the sequence; `retry()` goes on from there.
    """

    flow_kind: ClassVar[str] = "sequence"
    abstract: ClassVar[bool] = True
    owns_memory: ClassVar[bool] = True
    #: The steps, by name and in order. One that a subclass declares anew keeps its place.
    steps: ClassVar[dict[str, step]] = {}

    #: What the body of the class said, where some of it was put aside.
    _body: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        cls._body = dict(vars(cls))
        steps = _steps_of(cls)
        for name in steps.keys() & cls._body.keys():
            _check_name(cls, name)
            # A step may be named as something that every batch has, such as `create`: that stays what it is.
            if hasattr(Sequence, name):
                delattr(cls, name)
        cls.steps = steps
        super().__init_subclass__(**options)
        if not cls.abstract:
            for name, one in cls.steps.items():
                if one.is_method:
                    cls._share_method(name, one.target)

    @classmethod
    def _check(cls) -> None:
        super()._check()
        cls._begins_run("own" if cls.owns_memory else "shared")
        if not cls.steps:
            name = cls.__name__
            raise PlanInvalid(problem=f"{name} has no steps: declare each, as name = step(task) or with @step")
        for name, one in cls.steps.items():
            if one.is_method:
                check_runs(cls, name, one.target)
                check_takes(cls, name, one.target)

    @classmethod
    def _begins_run(cls, memory: str | None) -> bool:
        if not owns_memory(memory, otherwise=True):
            raise PlanInvalid(problem=f"{cls.__name__} is a sequence, and the data of a sequence is its own")
        return True

    def plan(self) -> None:
        """Put the steps one after another."""
        before: list[str] = []
        for name, one in self.steps.items():
            target = self._task_name(name) if one.is_method else one.target
            queue = self.queue if one.is_method else None
            options = {"queue": queue, **{key: value for key, value in one.options.items() if value is not None}}
            node = self._recorder.call(target, (), {}, name=name, options=options)
            self._recorder.plan.connect(before, [node.id])
            before = [node.id]

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002  # they are its data
        if args:
            raise TypeError(f"{type(self).__name__} takes its data by name: start(key=value)")
        self.plan()

    def _enroll(self, block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        block.data.update({key: encoded(key, value) for key, value in kwargs.items()})
        return super()._enroll(block, args, kwargs)

    @property
    def current_step(self) -> str | None:
        """The name of the step that is due, runs, or has stopped the sequence; None once all are complete."""
        rows = named_jobs(self._runtime.database, self.id)
        return next((name for name, state in rows if state is not JobState.COMPLETE), None)


#: What a sequence's own tasks are named after.
_TAKEN: Final = ("plan", "on_complete", "on_failure", "on_settled")


def _check_name(cls: type, name: str) -> None:
    if name in _TAKEN:
        raise PlanInvalid(problem=f"a step of {cls.__name__} can't be named {name!r}, which means something else")


def _steps_of(cls: type) -> dict[str, step]:
    found: dict[str, step] = {}
    for one in reversed(cls.__mro__):
        for name, value in vars(one).get("_body", vars(one)).items():
            if isinstance(value, step):
                found[name] = value
            elif name in found and type(value) is FunctionType:
                # A method that a subclass writes anew is that step still.
                again = step(value)
                again.name, again.options = name, found[name].options
                found[name] = again
            elif name in found:
                del found[name]
    return found
