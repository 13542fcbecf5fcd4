"""What is to be called when a batch announces something."""

from __future__ import annotations

from typing import Any

from celery import Signature, chord, group
from celery.canvas import _chain

from celery_flows.errors import CanvasNotSupported, PlanInvalid, UnknownEvent, UnknownTask
from celery_flows.ids import new_id
from celery_flows.messaging.call import encode_arguments, encode_options
from celery_flows.messaging.given import check_names, task_on_loss
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import FlowCall
from celery_flows.states import EVENT_ALIASES, Event, Kind
from celery_flows.transitions.enroll import NewJob
from celery_flows.transitions.listen import NewCallback


def new_callback(runtime: Runtime, batch_id: str, event: str, callback: Any, queue: str | None) -> NewCallback:
    """Make a callback of what a user gave.

    Raises:
        UnknownEvent: there is no such event.
        UnknownTask: the callback is not registered with the app.
        CanvasNotSupported: it is a chain, chord or group.
        PlanInvalid: it is a flow.
        NotJson: its arguments or options can't be stored.
        TooLong: its name, or that of its queue, does not fit.
        InvalidSetting: the task's own on_loss is none.
    """
    known = EVENT_ALIASES.get(event, event)
    if known not in list(Event):
        raise UnknownEvent(event=event)
    signature = _signature(callback)
    task = signature.get("task")
    if task is None or task not in runtime.app.tasks:
        raise UnknownTask(task=str(task or callback))
    task_on_loss(runtime.app.tasks[task])
    # A typed task takes fields by name, and nothing by position.
    takes_id = not (signature.immutable or getattr(runtime.app.tasks[task], "by_name_only", False))
    args = [batch_id, *signature.args] if takes_id else list(signature.args)
    queue = queue or signature.options.get("queue") or runtime.settings.callback_queue
    options = {**signature.options, "task_type": True, "queue": queue, "task_id": None}
    check_names(task, options)
    encoded = (*encode_arguments(task, args, signature.kwargs), encode_options(task, options))
    return NewCallback(new_id(), batch_id, Event(known), task, *encoded)


def waiting(callback: NewCallback) -> NewJob:
    """A callback as a row that is written together with its batch."""
    values = {**callback._asdict(), "batch_id": None, "kind": Kind.CALLBACK, "waits": True}
    return NewJob(**values)


def _signature(callback: Any) -> Any:
    """How a callback is to be called; nothing where it is no task."""
    signature = callback if isinstance(callback, (Signature, FlowCall)) else getattr(callback, "s", dict)()
    if isinstance(signature, FlowCall):
        flow = signature.flow.rpartition(".")[2]
        raise PlanInvalid(
            problem=f"a flow can't be a callback: let a task be it, and call {flow}.start(...) in that"
        )
    if isinstance(signature, (group, _chain, chord)):
        raise CanvasNotSupported(shape=str(signature["subtask_type"]), task=repr(signature))
    return signature
