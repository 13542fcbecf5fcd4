"""What was enrolled: to be looked at, and to be asserted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import Celery

from celery_flows.batch import Batch
from celery_flows.messaging.block import open_block
from celery_flows.queries.jobs import JobList
from celery_flows.queries.record import JobRecord
from celery_flows.states import TERMINAL
from celery_flows.testing.calls import Call, listed

#: How many batches are looked at where none is named.
_BATCHES: Final = 1000


def enrolled(batch: Batch | None = None, *, app: Celery | None = None) -> list[JobRecord]:
    """The jobs of a batch, those that have ended too, in the order in which they were enrolled.

    Args:
        batch: a batch or a running flow; None: all that there are.
        app: where no batch is given, the Celery app; by default the current one, or the only one with Flows.
    """
    batches = [batch] if batch is not None else reversed(Batch.list(limit=_BATCHES, app=app))
    return [job for one in batches for job in _jobs(one)]


def _jobs(batch: Batch) -> list[JobRecord]:
    # With no hook that hides what they were called with: a test is to see it.
    lists = (JobList(batch._runtime.database, batch.id, outcomes) for outcomes in (None, TERMINAL))
    return sorted((job for jobs in lists for job in jobs), key=lambda job: job.id)


def assert_enrolled(
    task: Any,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    batch: Batch | None = None,
    times: int | None = None,
    app: Celery | None = None,
) -> list[JobRecord]:
    """See that a task was enrolled.

    Args:
        task: the task, or its name.
        args: by position; None: whatever they are.
        kwargs: by name; None: whatever they are.
        batch: in this batch or running flow; None: in any.
        times: so often; None: at least once.
        app: where no batch is given, the Celery app.

    Returns:
        The jobs that it became, in the order in which they were enrolled.

    Raises:
        AssertionError: it was not; the message says what was.
    """
    __tracebackhide__ = True
    call, every = Call(task, args, kwargs), enrolled(batch, app=app)
    found = [job for job in every if call.fits(job)]
    if times is None and not found:
        raise AssertionError(f"{call} was not enrolled{_where(batch)}. {_instead(call, every)}")
    if times is not None and len(found) != times:
        number = f"{_times(len(found))}{_where(batch)}, not {_times(times)}"
        raise AssertionError(f"{call} was enrolled {number}. {_instead(call, every)}")
    return found


def _where(batch: Batch | None) -> str:
    return "" if batch is None else f" in batch {batch.id}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _instead(call: Call, every: list[JobRecord]) -> str:
    block = open_block()
    still = "" if block is None else f" A block of batch {block.batch_id} is open: its end enrolls what it has."
    if not every:
        return f"Nothing was: calls are enrolled that are made in a block (with batch.jobs():).{still}"
    return f"Enrolled are {len(every)}, those most like it first:\n{listed(call.like(every))}{still}"
