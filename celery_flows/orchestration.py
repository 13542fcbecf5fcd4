"""Orchestrations: jobs in series and in parallel, nested at will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, overload

from celery_flows.errors import PlanInvalid
from celery_flows.flow import Flow
from celery_flows.messaging.methods import check_runs
from celery_flows.plan import Node, Plan
from celery_flows.targets import Target
from celery_flows.typed import I, TypedTask


@dataclass
class _Group:
    """Jobs and groups of jobs, in series or in parallel."""

    is_parallel: bool
    parts: list[Node | _Group] = field(default_factory=list)

    def filled(self) -> list[Node | _Group]:
        """The parts in which there is a job."""
        return [one for one in self.parts if isinstance(one, Node) or one.filled()]

    def first(self) -> list[str]:
        """The jobs that begin."""
        parts = self.filled()
        return [one for part in (parts if self.is_parallel else parts[:1]) for one in _first(part)]

    def last(self) -> list[str]:
        """The jobs that end."""
        parts = self.filled()
        return [one for part in (parts if self.is_parallel else parts[-1:]) for one in _last(part)]

    def connect(self, plan: Plan) -> None:
        """Let what stands in series wait for one another."""
        parts = self.filled()
        for part in parts:
            if isinstance(part, _Group):
                part.connect(plan)
        if not self.is_parallel:
            for before, after in pairwise(parts):
                plan.connect(_last(before), _first(after))


def _first(part: Node | _Group) -> list[str]:
    return [part.id] if isinstance(part, Node) else part.first()


def _last(part: Node | _Group) -> list[str]:
    return [part.id] if isinstance(part, Node) else part.last()


class Orchestration(Flow):
    """Jobs one after another, and side by side where it says so.

    A subclass writes `plan`, which calls `run` for each job, and opens `in_parallel` and `in_series`.
    """

    flow_kind: ClassVar[str] = "orchestration"
    abstract: ClassVar[bool] = True

    @classmethod
    def _check(cls) -> None:
        super()._check()
        if cls.plan is Orchestration.plan:
            raise PlanInvalid(problem=f"{cls.__name__} has no method plan, which says what is to be run")
        check_runs(cls, "plan", cls.plan)

    def plan(self, *args: Any, **kwargs: Any) -> None:
        """Say what is to be run, in its order. What it takes is what `start` is called with."""
        raise NotImplementedError(f"{type(self).__name__} has no plan")

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._open = whole = _Group(is_parallel=False)
        super()._fill(args, kwargs)
        whole.connect(self._recorder.plan)

    @overload
    def run(self, target: TypedTask[I, Any], input: I | Mapping[str, Any] = ..., /, **fields: Any) -> Node: ...
    @overload
    def run(self, target: Target, /, *args: Any, **kwargs: Any) -> Node: ...
    def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Node:
        """Plan one job: after the one before, or beside it in a parallel block.

        Args:
            target: a task, a signature, a canvas, a task's name, or a flow (its class, or `SomeFlow.s(...)`). For
                a queue or a countdown pass a signature: `task.s(...).set(queue=...)`.
            args: what it is called with.
            kwargs: what it is called with by name.

        Raises:
            UnknownTask: the task is not registered.
            PlanInvalid: it is nothing that can be run.
            NotJson: an argument can't be stored.
        """
        node = self._recorder.call(target, args, kwargs)
        self._open.parts.append(node)
        return node

    @contextmanager
    def in_parallel(self) -> Iterator[None]:
        """What is planned inside runs side by side; what comes after waits for all of it."""
        with self._within(is_parallel=True):
            yield

    @contextmanager
    def in_series(self) -> Iterator[None]:
        """What is planned inside runs one after another; inside a parallel block, as one branch of it."""
        with self._within(is_parallel=False):
            yield

    @contextmanager
    def _within(self, *, is_parallel: bool) -> Iterator[None]:
        around, self._open = self._open, _Group(is_parallel)
        around.parts.append(self._open)
        try:
            yield
        finally:
            self._open = around
