"""Why a batch is not finished: what holds it, since when, and what happens next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from celery_flows.queries.batches import BatchRecord, batch
from celery_flows.settings import Settings
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store import holding
from celery_flows.store.database import Database

#: Rows of each sort that are named; more are counted.
_NAMED: Final = 5


@dataclass(frozen=True)
class Reason:
    """One thing that a batch waits for."""

    #: What it is, such as "job", "child batch", "streaming block", "callback" or "batch".
    what: str
    id: str
    #: What is the matter with it.
    state: str
    #: Since when, in UTC.
    since: datetime | None
    #: What happens by itself and when, or what to do.
    then: str

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.what} {self.id}: {self.state}{since}. {self.then}"


@dataclass(frozen=True)
class Explanation:
    """Everything that a batch waits for; prints as lines."""

    batch: BatchRecord
    reasons: tuple[Reason, ...]
    #: How many more jobs and callbacks of its own it waits for, not named here.
    more: int

    def __str__(self) -> str:
        head = f"Batch {self.batch.id} is {self.batch.state}"
        if not self.reasons:
            return f"{head}. It waits for nothing."
        lines = [f"{head}, and waits for:", *(f"- {reason}" for reason in self.reasons)]
        return "\n".join([*lines, *([f"- and {self.more} more"] if self.more else [])])


def explain(database: Database, batch_id: str, settings: Settings) -> Explanation:
    """Look what holds a batch, down through its children.

    Raises:
        BatchNotFound: there is no such batch.
    """
    record = batch(database, batch_id)
    with database.reading() as connection:
        rows = holding.unfinished(connection, database.tables, batch_id, _NAMED)
        number = holding.count(connection, database.tables, batch_id)
    has_jobs = any(row.kind != Kind.CALLBACK for row in rows)
    reasons = [reason for row in rows for reason in _reasons(database, row, settings)]
    return Explanation(record, (*_of_batch(record, has_jobs, settings), *reasons), number - len(rows))


def _of_batch(record: BatchRecord, has_jobs: bool, settings: Settings) -> list[Reason]:
    if record.state is BatchState.PENDING:
        then = "Its first block has not ended. Open one (with batch.jobs():), or cancel the batch."
        return [Reason("batch", record.id, "pending", record.created_at, then)]
    if record.settled_at is None and not has_jobs:
        then = f"No job is left, but nobody decided: the next sweep does, within {settings.sweep_interval:g} s."
        return [Reason("batch", record.id, "undecided", record.started_at, then)]
    return []


def _reasons(database: Database, row: Any, settings: Settings) -> list[Reason]:
    if row.kind == Kind.BATCH:
        return _of_child(database, row, settings)
    what = {Kind.BLOCK: "streaming block", Kind.CALLBACK: f"{row.event} callback"}.get(row.kind, "job")
    return [Reason(what, row.id, *_of_job(row, settings))]


def _of_child(database: Database, row: Any, settings: Settings) -> list[Reason]:
    below = explain(database, row.id, settings)
    own = Reason("child batch", row.id, str(below.batch.state), row.enrolled_at, "It waits for what follows.")
    if not below.reasons:
        then = f"It is finished; the sweep ends its row here, every {settings.sweep_interval:g} s."
        own = Reason("child batch", row.id, str(below.batch.state), below.batch.settled_at, then)
    return [own, *below.reasons]


def _of_job(row: Any, settings: Settings) -> tuple[str, datetime | None, str]:
    state = JobState(row.state)
    if row.kind == Kind.BLOCK:
        return _of_block(row, settings)
    if state is JobState.RUNNING:
        return _of_running(row, settings)
    if row.publishing_since is not None:
        due = row.publishing_since + timedelta(seconds=settings.lease_timeout)
        then = f"Its publisher should be done; at {due:%H:%M:%S} UTC the next sweep publishes it."
        return f"{state}, not published", row.publishing_since, then
    return str(state), row.queued_at or row.enrolled_at, _next_of_queued(row, settings)


def _next_of_queued(row: Any, settings: Settings) -> str:
    if row.hostname is not None:
        return f"{row.hostname}, process {row.pid}, has its message and runs it in its turn."
    if row.queued_at is not None and row.queued_at > row.now:
        return f"It is due at {row.queued_at:%H:%M:%S} UTC."
    queue = "its queue" if row.queue is None else f"queue {row.queue!r}"
    return (
        f"A worker that consumes {queue} takes it ({row.task}). Is none there? Start one. Should its message "
        f"be gone, the sweep sends it again after {settings.requeue_after:g} s."
    )


def _of_block(row: Any, settings: Settings) -> tuple[str, datetime | None, str]:
    if row.heartbeat_at is None:
        return "open, its producer gone", row.enrolled_at, "The next sweep ends it as abandoned."
    return f"open in {row.hostname}, process {row.pid}", row.enrolled_at, _heard("producer", row, settings)


def _of_running(row: Any, settings: Settings) -> tuple[str, datetime | None, str]:
    if row.worker_id is None:
        return "running", row.started_at, "It runs outside of a worker."
    if row.heartbeat_at is None:
        return "running on a worker that is gone", row.started_at, "The next sweep gives it up."
    who = f"running on {row.hostname}, process {row.pid}, attempt {row.attempt}"
    return who, row.started_at, _heard("worker", row, settings)


def _heard(who: str, row: Any, settings: Settings) -> str:
    silence = (row.now - row.heartbeat_at).total_seconds()
    if silence < settings.lease_timeout / 2:
        return f"The {who} was heard of {silence:.0f} s ago."
    if silence >= settings.lease_timeout:
        return f"The {who} is silent for {silence:.0f} s: the next sweep gives it up."
    over = row.heartbeat_at + timedelta(seconds=settings.lease_timeout)
    return f"The {who} is silent for {silence:.0f} s; its lease ends at {over:%H:%M:%S} UTC."
