"""A job as it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from celery_flows.codec import decode
from celery_flows.queries.redact import Redact
from celery_flows.shown import html
from celery_flows.shown.snapshot import Snapshot
from celery_flows.shown.words import ago, call_of, cut, in_brackets, pretty, quoted, short, span
from celery_flows.states import TERMINAL, JobState, Kind

#: Characters of an error.
_ERROR: Final = 160


@dataclass(frozen=True)
class JobRecord(Snapshot):
    """A job's row at one moment; times are aware, in UTC."""

    #: Celery's task id; for a child batch the child's id.
    id: str
    #: "task", "batch" (a child), "plan" (the planning of a flow, until it is done) or "block" (a streaming block
    #: that was abandoned).
    kind: str
    #: Name of the task.
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    state: JobState
    error_class: str | None
    error_message: str | None
    #: How often a worker has claimed it.
    attempts: int
    enrolled_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    #: What its flow calls it: a step's name, or the name= of a workflow's job.
    name: str | None = None

    def __repr__(self) -> str:
        return in_brackets(_head(self), _facts(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # IPython's signature
        pretty(printer, _head(self), _facts(self))

    def _repr_html_(self) -> str:
        return jobs_table([self])


class JobRecords(list[JobRecord]):
    """Jobs that were read: a list, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        return jobs_table(self)


def job_record(row: Any, redact: Redact | None) -> JobRecord:
    """What a row says, with what is to be hidden hidden."""
    args, kwargs = decode(row.args) or [], decode(row.kwargs) or {}
    if redact is not None and redact.arguments is not None:
        args, kwargs = redact.arguments(row.task, args, kwargs)
    return JobRecord(
        id=row.id,
        kind=row.kind,
        task=row.task,
        args=args,
        kwargs=kwargs,
        state=JobState(row.state),
        error_class=row.error_class,
        error_message=shown_message(row, redact),
        attempts=row.attempt,
        enrolled_at=row.enrolled_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        name=row.name,
    )


def shown_message(row: Any, redact: Redact | None) -> str | None:
    """What an error said, as far as it is to be shown."""
    message: str | None = row.error_message
    if redact is not None and redact.error is not None and message is not None:
        message = redact.error(row.task, message)
    return message


def jobs_table(jobs: Iterable[JobRecord]) -> str:
    """Jobs in HTML, a row each."""
    shown = list(jobs)
    note = html.as_of(max(one.age for one in shown)) if shown else "no jobs"
    return html.table(["job", "name", "call", "state", "attempts", "error"], map(_cells, shown), note)


def _cells(job: JobRecord) -> list[str]:
    job_id = html.element("code", job.id, style="white-space:nowrap")
    state = html.state(str(job.state))
    return [job_id, job.name or "", _call(job), state, str(job.attempts), _error(job)]


def _call(job: JobRecord) -> str:
    """What it calls; of what is no call, what it is."""
    is_call = job.kind in (Kind.TASK, Kind.CALLBACK)
    return call_of(job.task, job.args, job.kwargs) if is_call else f"{job.kind} {job.task}".rstrip()


def _error(job: JobRecord) -> str:
    return cut(f"{job.error_class}: {job.error_message}", _ERROR) if job.error_class else ""


def _head(job: JobRecord) -> str:
    name = "" if job.name is None else f" {quoted(job.name)}"
    return f"Job {short(job.id)}{name} {_call(job)}"


def _facts(job: JobRecord) -> list[str]:
    error = [_error(job)] if job.error_class else []
    attempts = [f"{job.attempts} attempts"] if job.attempts > 1 else []
    return [str(job.state), *error, *attempts, *_times(job)]


def _times(job: JobRecord) -> list[str]:
    if job.state not in TERMINAL:
        is_running = job.state is JobState.RUNNING and job.started_at is not None
        since = [f"since {job.started_at:%H:%M:%S} UTC"] if is_running else []
        return [*since, f"as of {ago(job.age)}"]
    if job.started_at is None or job.ended_at is None:
        return []
    return [f"took {span((job.ended_at - job.started_at).total_seconds())}"]
