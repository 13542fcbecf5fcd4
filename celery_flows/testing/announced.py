"""What a batch has announced, asserted."""

from __future__ import annotations

from typing import Any

from celery_flows.batch import Batch
from celery_flows.errors import UnknownEvent
from celery_flows.queries.batches import batch as read
from celery_flows.queries.jobs import callbacks
from celery_flows.queries.record import JobRecord
from celery_flows.states import EVENT_ALIASES, TERMINAL, Event, JobState
from celery_flows.testing.calls import line_of, listed, name_of


def assert_callback(batch: Batch, event: str, task: Any = None, *, ran: bool = True) -> list[JobRecord]:
    """See that a batch has announced an event, and that its callbacks have run well.

    Args:
        batch: the batch, or the running flow.
        event: "complete" (or "success"), "failure" or "settled".
        task: the callback that is meant, or its name; None: all that the event has.
        ran: whether they must have run; if not, it is enough that the event has come.

    Returns:
        The callbacks.

    Raises:
        AssertionError: they have not; the message says what the batch waits for, or what went wrong.
        UnknownEvent: there is no such event.
    """
    __tracebackhide__ = True
    known = EVENT_ALIASES.get(event, event)
    if known not in list(Event):
        raise UnknownEvent(event=event)
    every = callbacks(batch._runtime.database, batch.id, read(batch._runtime.database, batch.id).round)
    found = [job for job in every if job.event == known and (task is None or job.task == name_of(task))]
    if not found:
        raise AssertionError(_missing(batch, known, task, every))
    for job in found:
        problem = _problem(batch, job, ran)
        if problem is not None:
            raise AssertionError(f"The {known} callback {job.task} of batch {batch.id} {problem}")
    return found


def _missing(batch: Batch, event: str, task: Any, every: list[JobRecord]) -> str:
    what = "no callback" if task is None else f"no callback {name_of(task)}"
    has = "\n".join(f"  {job.event}: {line_of(job)}" for job in every)
    instead = f"It has:\n{has}" if every else f"It has none at all: batch.on({event!r}, task) adds one."
    return f"Batch {batch.id} has {what} for {event!r}. {instead}"


def _problem(batch: Batch, job: JobRecord, ran: bool) -> str | None:
    if job.state is JobState.WAITING:
        return f"has not been called. What is queued, drain() runs.\n{batch.explain()}"
    if job.state is JobState.SKIPPED:
        return f"will not be called: the batch is {batch.status}.{_failures(batch)}"
    if not ran or job.state is JobState.COMPLETE:
        return None
    if job.state in TERMINAL:
        return f"has not ended well: {line_of(job)}."
    return f"was called, and has not run: it is {job.state}. Run it with drain(), or ask for ran=False."


def _failures(batch: Batch) -> str:
    failed = list(batch.failed_jobs[:100])
    return f" Failed jobs:\n{listed(failed)}" if failed else ""
