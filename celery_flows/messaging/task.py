"""What every task of an app gets in front of its own class, and how it gets it."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.app.registry import TaskRegistry

from celery_flows.messaging import eager
from celery_flows.messaging.block import Block, open_block
from celery_flows.messaging.claims import held_by
from celery_flows.messaging.gate import enter
from celery_flows.messaging.header import HEADER, Delivery
from celery_flows.messaging.replace import prepare_part, publish_replacement
from celery_flows.messaging.request import request_class
from celery_flows.messaging.result import expect


class FlowsTask(Task):
    """Claims before the body runs.

    Not a base to inherit from: the registry puts it in front of each task's own class, whatever that is.
    """

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Claim the job before anything of the task runs."""
        headers = self.request.headers
        # Tasks that are nobody's job pay for this question only: no call is made for it.
        if headers and HEADER in headers:
            delivery = Delivery.read(headers)
            if delivery is not None:
                enter(self, delivery)
        super().before_start(task_id, args, kwargs)

    def on_replace(self, sig: Any) -> Any:
        """Let the job stay unfinished until what replaces it has ended."""
        delivery = None if self.request.is_eager else Delivery.read(self.request.headers)
        claim = held_by(self.request)
        if delivery is not None and delivery.is_part:
            prepare_part(delivery, sig)
        elif delivery is not None and claim is not None:
            return publish_replacement(claim, sig, super().on_replace)
        return super().on_replace(sig)

    def apply(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Run here; a job of an eager app's block has its error in its row, and leaves the others their turn."""
        if eager.is_running(options.get("task_id")):
            options["throw"] = False
        return super().apply(args, kwargs, *more, **options)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Any:  # noqa: N802  # Celery's name
        """Make a result; a group makes those of its calls first, and gives them back."""
        if self._block() is None:
            return super().AsyncResult(task_id, **kwargs)
        return expect(task_id, self.app, backend=self.backend, **kwargs)

    def _block(self) -> Block | None:
        block = open_block()
        return block if block is not None and block.runtime.app is self.app else None

    @classmethod
    def annotate(cls) -> None:
        """Put what a user's `task_annotations` say behind what stands in front, not in its place."""
        super().annotate()
        own = cls.__bases__[1]
        for name in ("before_start", "on_replace"):
            if name in cls.__dict__:
                setattr(own, name, cls.__dict__[name])
                delattr(cls, name)


class OnCommit(FlowsTask):
    """In front of Celery's DjangoTask: a call bound to a commit keeps to the block that it was made in."""

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Call after the transaction commits; in a block, the block's end waits for the commit too."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """As `delay_on_commit`, with options."""
        block = self._block()
        if block is None:
            super().apply_async_on_commit(*args, **kwargs)
            return
        from django.db import transaction  # an optional dependency: only a Django project comes here

        with block.deferring(transaction.on_commit):
            self.apply_async(*args, **kwargs)


class FlowsAttributes:
    """Behind each task's own class: attributes that bound tasks find, unless their class has its own."""


class FlowsRegistry(TaskRegistry):
    """Puts `FlowsTask` in front of each task as it is registered: by a decorator, as a class, or late."""

    def __setitem__(self, name: str, task: Any) -> None:
        front(task)
        super().__setitem__(name, task)


def front(task: Any) -> None:
    """Put `FlowsTask` in front of a task's own class, once."""
    own = type(task)
    if issubclass(own, FlowsTask):
        return
    names = {name: getattr(own, name) for name in ("__module__", "__qualname__", "__doc__")}
    names["Request"] = request_class(own.Request)
    ours = OnCommit if hasattr(own, "delay_on_commit") else FlowsTask
    task.__class__ = type(own.__name__, (ours, own, FlowsAttributes), names)


def front_all(app: Celery) -> None:
    """Put `FlowsTask` in front of all tasks of an app, those to come included."""
    registry = FlowsRegistry()
    for name, task in app._tasks.items():
        registry[name] = task
    app._tasks = registry
    # A finalized app keeps a second reference.
    if "tasks" in app.__dict__:
        app.__dict__["tasks"] = registry
