"""What flows can run, as type checkers see it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from celery_flows.flow import Flow
from celery_flows.plan import FlowCall


class PlainTask(Protocol):
    """A task of Celery's, and no TypedTask: what a call of that takes is said by its models."""

    name: str
    # What a TypedTask has here is narrower, so that a wrong model can't pass for arguments of an ordinary task.
    typing: bool

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Make a signature."""


#: A task, a signature or canvas (which are dicts), a task's name, or a flow: its class, or `SomeFlow.s(...)`.
Target: TypeAlias = PlainTask | dict[str, Any] | str | type[Flow] | FlowCall
