"""Apps with `task_always_eager`: a block's calls are kept like all others, and run here when it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery import Celery
from celery.app.utils import Settings

from celery_flows.codec import decode
from celery_flows.messaging.call import decode_options
from celery_flows.messaging.context import innermost
from celery_flows.messaging.header import HEADER, RETRIES, Delivery
from celery_flows.messaging.result import deliver
from celery_flows.store.publishing import ReadyJob

#: The job that is being run here.
_running: ContextVar[str | None] = ContextVar("celery_flows_eager_job", default=None)

#: What the jobs run since the outermost publishing began have raised.
_errors: ContextVar[list[Exception] | None] = ContextVar("celery_flows_eager_errors", default=None)


class _Conf(Settings):
    """An eager app's configuration: for calls inside its open block the app is not eager.

    Celery asks the configuration in `apply_async` of tasks, groups, chains and chords, and runs what it
    finds eager on the spot, past every hook.
    """

    @property
    def task_always_eager(self) -> bool:
        block = innermost()
        is_collecting = block is not None and block.takes_calls and block.runtime.app.conf is self
        return not is_collecting and is_eager(self)


def is_eager(conf: Any) -> bool:
    """Whether an app's configuration says that it is eager, whatever block is open."""
    return bool(conf["task_always_eager"])


def prepare(app: Celery) -> None:
    """Let an eager app's blocks collect calls; called as each block opens, as tests switch eagerness."""
    conf = app.conf
    if is_eager(conf) and not isinstance(conf, _Conf):
        # Celery's own __setattr__ would take it for a setting.
        object.__setattr__(conf, "__class__", _Conf)


@contextmanager
def raising_at_the_end(app: Celery) -> Iterator[None]:
    """Where `task_eager_propagates`, raise what the first failed job raised, once all have run."""
    if _errors.get() is not None or not (is_eager(app.conf) and app.conf.task_eager_propagates):
        yield
        return
    errors: list[Exception] = []
    token = _errors.set(errors)
    try:
        yield
    finally:
        _errors.reset(token)
    if errors:
        raise errors[0]


#: The jobs that are to be run here, after the one that runs.
_due: ContextVar[deque[ReadyJob] | None] = ContextVar("celery_flows_eager_due", default=None)


def in_turn(jobs: Iterable[ReadyJob]) -> Iterator[ReadyJob]:
    """Give jobs one after another, and those that became ready by them: not inside of them, however many."""
    due = _due.get()
    if due is not None:
        due.extend(jobs)
        return
    due = deque(jobs)
    token = _due.set(due)
    try:
        while due:
            yield due.popleft()
    finally:
        _due.reset(token)


def run(app: Celery, job: ReadyJob) -> None:
    """Run a job here and now."""
    options = decode_options(job.options)
    delivery = Delivery.of(job, options.pop(RETRIES, 0))
    headers = (options.pop("headers", None) or {}) | {HEADER: delivery.write()}
    options.pop("task_type", None)
    task = app.tasks[job.task]
    token = _running.set(job.id)
    try:
        result = task.apply(
            tuple(decode(job.args)), decode(job.kwargs), task_id=job.id, headers=headers, **options
        )
    finally:
        _running.reset(token)
    errors = _errors.get()
    if errors is not None and isinstance(result.result, Exception):
        errors.append(result.result)
    deliver(job.id, result)


def is_running(task_id: str | None) -> bool:
    """Whether this is the job being run here: its retries are too, and what it raises waits for the others."""
    return task_id is not None and task_id == _running.get()
