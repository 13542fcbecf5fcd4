"""Workflows: any graph of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, overload

from celery_flows.canvas import CanvasLauncher, canvas_launcher
from celery_flows.errors import PlanInvalid
from celery_flows.flow import Flow
from celery_flows.messaging.methods import check_runs
from celery_flows.plan import Node, condition_of
from celery_flows.states import Condition
from celery_flows.targets import Target
from celery_flows.typed import I, TypedTask


class Workflow(Flow):
    """Jobs of which each may wait for any others.

    A subclass writes `plan`, which calls `run` for each job.
    """

    flow_kind: ClassVar[str] = "workflow"
    abstract: ClassVar[bool] = True

    @staticmethod
    def from_canvas(canvas: Any) -> CanvasLauncher:
        """Make Celery's canvas durable: any nesting of chain, group, chord, map, starmap and chunks.

        Results are passed as Celery passes them, without a result backend, and no message grows with the flow.

        Args:
            canvas: a signature of any shape.

        Returns:
            What starts it: `Workflow.from_canvas(chain(a.s(1), b.s())).start()`; also `delay`, `preview`, and
            `using` for a description, tags and the like.

        Raises:
            PlanInvalid: it is no signature.
        """
        return canvas_launcher(canvas)

    @classmethod
    def _check(cls) -> None:
        super()._check()
        if cls.plan is Workflow.plan:
            raise PlanInvalid(problem=f"{cls.__name__} has no method plan, which says what is to be run")
        check_runs(cls, "plan", cls.plan)

    def plan(self, *args: Any, **kwargs: Any) -> None:
        """Say what is to be run: call `run` for each job. What it takes is what `start` is called with."""
        raise NotImplementedError(f"{type(self).__name__} has no plan")

    @overload
    def run(
        self,
        target: TypedTask[I, Any],
        input: I | Mapping[str, Any] = ...,
        /,
        *,
        after: Node | Iterable[Any] | None = ...,
        when: str = ...,
        name: str | None = ...,
        queue: str | None = ...,
        countdown: float | None = ...,
        **fields: Any,
    ) -> Node: ...
    @overload
    def run(
        self,
        target: Target,
        /,
        *args: Any,
        after: Node | Iterable[Any] | None = ...,
        when: str = ...,
        name: str | None = ...,
        queue: str | None = ...,
        countdown: float | None = ...,
        **kwargs: Any,
    ) -> Node: ...
    def run(
        self,
        target: Any,
        /,
        *args: Any,
        after: Node | Iterable[Any] | None = None,
        when: str = "complete",
        name: str | None = None,
        queue: str | None = None,
        countdown: float | None = None,
        **kwargs: Any,
    ) -> Node:
        """Plan one job.

        Args:
            target: a task, a signature, a canvas (what waits for it waits for its end), a task's name, or a flow
                (its class, or `SomeFlow.s(...)`).
            args: what it is called with.
            after: the job that it waits for, as `run` gave it, or several, lists in lists included.
            when: how that must have ended: "complete", "failure" or "settled" (any end). Where it did not,
                this job is skipped.
            name: what it is called in lists; unique. With a name, jobs that wait for it can read its result:
                `current_job().results[name]`.
            queue: where it runs; None: as its task says.
            countdown: seconds that it waits once its turn has come.
            kwargs: what it is called with by name. For those named like one above, pass a signature.

        Returns:
            The job, to be waited for by others.

        Raises:
            UnknownTask: the task is not registered.
            PlanInvalid: `after` or `when` is wrong.
            NotJson: an argument can't be stored.
        """
        recorder = self._recorder
        condition = condition_of(when, after)
        before = [self._own(node) for node in nodes_in(after)]
        options = {"queue": queue, "countdown": countdown}
        node = recorder.call(target, args, kwargs, name=name, options=options)
        self._waits.setdefault((tuple(before), condition), []).append(node.id)
        return node

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._waits: dict[tuple[tuple[str, ...], Condition], list[str]] = {}
        super()._fill(args, kwargs)
        plan = self._recorder.plan
        # At the end, when it is known which jobs wait for the same ones.
        for (before, condition), dependents in self._waits.items():
            for one in before:
                plan.add(replace(plan.nodes[one], is_read=plan.nodes[one].name is not None))
            plan.connect(before, dependents, condition)

    def _own(self, node: Node) -> str:
        if node.id not in self._recorder.plan.nodes:
            raise PlanInvalid(problem=f"{node.label} is a job of another plan")
        return node.id


def nodes_in(after: Any) -> Iterator[Node]:
    """The jobs in what was given as `after`, in their order, each once.

    Raises:
        PlanInvalid: something among them is no job.
    """
    found: dict[str, Node] = {}
    waiting = [after]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, Node):
            found.setdefault(one.id, one)
        elif isinstance(one, Iterable) and not isinstance(one, (str, bytes)):
            waiting[:0] = list(one)
        elif one is not None:
            raise PlanInvalid(problem=f"after={one!r} is not what run(...) gave")
    yield from found.values()
