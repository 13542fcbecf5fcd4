"""What went wrong with a job, as an error: made from what its row has recorded."""

from __future__ import annotations

import builtins
from contextlib import suppress
from typing import Any

from celery.exceptions import ChordError, TaskRevokedError
from celery.utils.serialization import create_exception_cls

from celery_flows.errors import NoResult
from celery_flows.messaging.runtime import Runtime
from celery_flows.states import JobState
from celery_flows.store import edges, jobs


def failure_of(runtime: Runtime, job_id: str) -> tuple[Any, Exception | None]:
    """A job's row, and why it has not returned anything, as Celery says it; None: it has, or may yet.

    Raises:
        NoResult: the job is no more.
    """
    with runtime.database.reading() as connection:
        tables = runtime.database.tables
        row = jobs.find(connection, tables, job_id)
        if row is None:
            raise NoResult(name=job_id, problem="it is gone")
        culprit = row
        while culprit is not None and culprit.state == JobState.SKIPPED:
            culprit = jobs.find(connection, tables, edges.culprit(connection, tables, culprit.id) or "")
    if culprit is None:
        return row, TaskRevokedError("not needed")
    error = _recorded(culprit)
    if error is None or culprit is row:
        return row, error
    failure = ChordError(f"Dependency {culprit.id} raised {error!r}")
    failure.__cause__ = error
    return row, failure


def why_unanswered(runtime: Runtime, job_id: str) -> Exception | None:
    """Why a job will not return anything; None: it has, or may yet, or nobody knows it any more."""
    try:
        return failure_of(runtime, job_id)[1]
    except NoResult:
        return None


def _recorded(row: Any) -> Exception | None:
    if row.state not in (JobState.FAILED, JobState.CANCELLED):
        return None
    if row.state == JobState.CANCELLED:
        made: Any = TaskRevokedError
    else:
        # A batch inside has an outcome, and no error of its own.
        made = create_exception_cls(row.error_class or "FlowFailed", "celery_flows.recorded")
    error: Exception = made(row.error_message or str(row.state))
    # Nothing is imported for it: it is Python's own, or one made by its name.
    known: Any = getattr(builtins, row.error_class or "", None)
    if isinstance(known, type) and issubclass(known, Exception):
        with suppress(TypeError):
            error = known(row.error_message)
    return error
