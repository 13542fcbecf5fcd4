"""Running one message as a worker's process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, _state, signals, states
from celery.exceptions import NotRegistered

from celery_flows.errors import FinalError
from celery_flows.messaging.context import within
from celery_flows.messaging.gate import end
from celery_flows.messaging.header import Delivery
from celery_flows.messaging.outcomes import reporter
from celery_flows.messaging.runtime import attached_to
from celery_flows.states import JobState
from celery_flows.testing.calls import written


@dataclass(frozen=True)
class Ran:
    """A message that was run."""

    #: Celery's task id.
    id: str
    #: Name of the task.
    task: str
    #: As the message says them; None where it can't be read.
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    #: Celery's word: "SUCCESS", "FAILURE", "RETRY" (it runs again), "REVOKED" (also where it expired), "IGNORED"
    #: (also a duplicate of a job's message, and a task that something else replaces) or "REJECTED".
    state: str
    #: What the task returned.
    result: Any = field(default=None, compare=False)
    #: What it raised.
    error: BaseException | None = field(default=None, compare=False)

    def __str__(self) -> str:
        error = f", {self.error!r}" if self.error is not None else ""
        return f"{written(self.task, self.args, self.kwargs)}: {self.state}{error}"


def run(app: Celery, message: Any, *, acknowledge: bool = True) -> Ran:
    """Run a message here: claim, body, outcome, and what follows from it.

    Args:
        acknowledge: whether the broker still has it, and is told what became of it.
    """
    app.finalize()
    with within(None), reporter.at_once(), current(app):
        try:
            message.decode()
            task = app.tasks[message.headers["task"]]
        except Exception as error:
            return _refuse(app, message, error, acknowledge)
        return _execute(app, task, message, acknowledge)


def _execute(app: Celery, task: Any, message: Any, acknowledge: bool) -> Ran:
    args, kwargs, _ = message.payload
    seen: list[tuple[str | None, Any]] = []

    def see(task_id: str, state: str | None, retval: Any, **_: Any) -> None:
        if task_id == message.headers["id"]:
            seen.append((state, retval))

    def reject(logger: Any, errors: Any, requeue: bool) -> None:
        # Run outside of a pool, Celery forgets what the task itself has said.
        said = seen[-1][1] if seen else None
        message.reject_log_error(logger, errors, requeue or bool(getattr(said, "requeue", False)))

    answers = (message.ack_log_error, reject) if acknowledge else (_nothing, _nothing)
    request = _request(app, task, message, *answers)
    with _receiving(signals.task_postrun, see):
        try:
            request.execute()
        except SystemExit as error:
            # It ends a worker's process; the test's goes on.
            seen.append((states.FAILURE, error))
    state, value = seen[-1] if seen else (states.REVOKED, None)
    return _ran(message, args, kwargs, state, value)


def _request(app: Celery, task: Any, message: Any, on_ack: Any, on_reject: Any) -> Any:
    return task.Request(
        message,
        app=app,
        task=task,
        on_ack=on_ack,
        on_reject=on_reject,
        hostname="in-process",
        connection_errors=(),
    )


def _ran(message: Any, args: Any, kwargs: Any, state: str | None, value: Any) -> Ran:
    if state == states.FAILURE and _bears_retry(message, value):
        state = states.RETRY
    is_error = isinstance(value, BaseException) and state != states.SUCCESS
    name, id_ = message.headers["task"], message.headers["id"]
    result = None if is_error or state != states.SUCCESS else value
    return Ran(id_, name, list(args), dict(kwargs), state or states.FAILURE, result, value if is_error else None)


def _bears_retry(message: Any, error: Any) -> bool:
    """Whether a job that raised runs again because its plan says so, of which Celery does not know."""
    delivery = Delivery.read(message.headers)
    is_left = delivery is not None and message.headers.get("retries", 0) < delivery.retries
    return is_left and isinstance(error, Exception) and not isinstance(error, FinalError)


def _refuse(app: Celery, message: Any, error: Exception, acknowledge: bool) -> Ran:
    """A message that no worker could run: its job fails by that."""
    name = message.headers.get("task") or "a message without a task"
    problem = NotRegistered(name) if isinstance(error, KeyError) else error
    delivery, runtime = Delivery.read(message.headers), attached_to(app)
    if acknowledge:
        message.reject()
    if delivery is not None and runtime is not None:
        end(runtime, delivery, JobState.FAILED, problem)
    return Ran(message.headers.get("id", ""), name, *_arguments(message), states.FAILURE, error=problem)


def _arguments(message: Any) -> tuple[list[Any] | None, dict[str, Any] | None]:
    try:
        args, kwargs, _ = message.payload
    except Exception:
        # What is wrong with it is why it was refused.
        return None, None
    return list(args), dict(kwargs)


@contextmanager
def current(app: Celery) -> Iterator[None]:
    """Make an app the current one of this thread, as a worker does."""
    before = _state._tls.current_app
    app.set_current()
    try:
        yield
    finally:
        _state._set_current_app(before)


@contextmanager
def _receiving(signal: Any, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """The broker does not have the message any more."""
