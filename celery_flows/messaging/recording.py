"""Making a plan of calls: a task is called as ever, and the call is caught on its way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import Signature

from celery_flows.codec import encode
from celery_flows.errors import PlanInvalid
from celery_flows.ids import new_id
from celery_flows.messaging import eager
from celery_flows.messaging.canvas import Call, Canvas, Part
from celery_flows.messaging.catcher import Catcher
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import FlowCall, Node, Plan
from celery_flows.states import Kind, Takes


class Recorder:
    """Puts calls into a plan."""

    def __init__(self, runtime: Runtime, plan: Plan) -> None:
        self.runtime = runtime
        self.plan = plan

    def call(
        self,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Node:
        """Plan one call: of a task, a signature, a canvas, a task's name, or a flow.

        Returns:
            The job; of a canvas, the one that ends it.

        Raises:
            UnknownTask: it is not registered with the app.
            PlanInvalid: it is nothing that can be called.
            BadInput: it is a typed task, and called with something by position.
            NotJson: an argument or option can't be stored.
        """
        given = {key: value for key, value in (options or {}).items() if value is not None}
        flow = _flow_call(target, args, kwargs)
        if flow is not None:
            return self.plan.add(nested_node(flow.set(**given), name))
        if getattr(target, "by_name_only", False):
            # A typed task: what it is called with is seen here, and not only in a worker.
            target, args, kwargs = target.s(*args, **kwargs), (), {}
        part = self.canvas(self._signature(target), args, kwargs, given)
        return self.plan.add(replace(self._end(part, is_read=name is not None), name=name))

    def canvas(self, signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Any) -> Part:
        """Plan a signature of any shape."""
        eager.prepare(self.runtime.app)
        catcher = Catcher(self.runtime, lambda: True)
        call = Call(args=args, kwargs=kwargs, options=options)
        return Canvas(catcher, self.plan, is_strict=True).add(signature, call)

    def _end(self, part: Part, *, is_read: bool) -> Node:
        """The job that ends a part, for what comes after it: where several do, a join."""
        if not part.ends:
            raise PlanInvalid(problem="an empty canvas is nothing that can be run")
        if part.is_list:
            end = self.plan.add(Node(new_id(), Kind.JOIN, "")).id
            self.plan.connect(part.ends, [end], takes=Takes.LIST if is_read else None)
        else:
            [end] = part.ends
        return replace(self.plan.nodes[end], begins=() if part.begins == [end] else tuple(part.begins))

    def _signature(self, target: Any) -> Any:
        if isinstance(target, Signature):
            return target
        if isinstance(target, str):
            return Signature(target)
        if not hasattr(target, "apply_async") or not hasattr(target, "s"):
            called = ". Was it called? Give the task itself, and its arguments after it" if target is None else ""
            raise PlanInvalid(problem=f"{target!r} is no task, signature or flow{called}")
        return target.s()


def _flow_call(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlowCall | None:
    if isinstance(target, FlowCall):
        merged = {"args": (*target.args, *args), "kwargs": {**target.kwargs, **kwargs}}
        return FlowCall(**{**vars(target), **merged})
    make = getattr(target, "flow_call", None)
    if isinstance(getattr(make, "__self__", None), type) and not isinstance(target, type):
        name = type(target).__name__
        problem = (
            f"{target!r} is a {name} that was started: for one that is a part of this, give {name} itself or "
        )
        raise PlanInvalid(problem=f"{problem}{name}.s(...)")
    found: FlowCall | None = make(*args, **kwargs) if make is not None else None
    return found


def nested_node(call: FlowCall, name: str | None = None) -> Node:
    """A flow as one job of another."""
    # What it is called with can't be shown where it can't be stored; then its planning says so.
    return Node(new_id(), Kind.BATCH, call.flow, encode([]), "{}", "{}", name=name, call=call)
