"""Why a batch is not finished: what holds it, since when, and what happens next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from celery_flows.queries.batches import BatchRecord, batch
from celery_flows.queries.turn import next_of_waiting
from celery_flows.settings import Settings
from celery_flows.shown.words import in_brackets, short
from celery_flows.states import JobState, Kind
from celery_flows.store import holding
from celery_flows.store.database import Database
from celery_flows.store.vanished import growth

#: What rows that are no jobs are called.
_WHAT: Final = {
    Kind.BLOCK: "streaming block",
    Kind.BATCH: "child batch",
    Kind.PLAN: "planning",
    Kind.JOIN: "join",
}

#: Rows of each sort that are named; more are counted.
_NAMED: Final = 5


@dataclass(frozen=True)
class Reason:
    """One thing that a batch waits for."""

    #: What it is, such as "job", "planning", "child batch", "streaming block", "callback" or "batch".
    what: str
    id: str
    #: What is the matter with it.
    state: str
    #: Since when, in UTC.
    since: datetime | None
    #: What happens by itself and when, or what to do.
    then: str
    #: The task that is called; None for what is no call.
    task: str | None = None

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        task = "" if self.task is None else f" ({self.task})"
        return f"{self.what} {self.id}{task}: {self.state}{since}. {self.then}"


@dataclass(frozen=True)
class Explanation:
    """Everything that a batch waits for; prints as lines."""

    batch: BatchRecord
    reasons: tuple[Reason, ...]
    #: How many more jobs and callbacks of its own it waits for, not named here.
    more: int
    #: The callbacks of its round that failed, the first few: nothing waits for them any more.
    failed_callbacks: tuple[Reason, ...] = ()

    def __repr__(self) -> str:
        parts = [str(self.batch.state), self._waiting]
        parts += [f"callbacks failed: {len(self.failed_callbacks)}"] if self.failed_callbacks else []
        return in_brackets(f"Explanation of {short(self.batch.id)}", parts)

    @property
    def _waiting(self) -> str:
        number = len(self.reasons) + self.more
        return f"waits for {number:,} {'thing' if number == 1 else 'things'}" if number else "waits for nothing"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # IPython's signature
        for number, line in enumerate(str(self).splitlines()):
            if number:
                printer.break_()
            printer.text(line)

    def __str__(self) -> str:
        head, failed = f"Batch {self.batch.id} is {self.batch.state}", self.failed_callbacks
        if self.reasons:
            lines = [f"{head}, and waits for:", *(f"- {reason}" for reason in self.reasons)]
        else:
            lines = [f"{head}. It waits for nothing."]
        lines += [f"- and {self.more} more"] if self.more else []
        lines += ["Of its callbacks these failed:", *(f"- {reason}" for reason in failed)] if failed else []
        return "\n".join(lines)


class _Upkeep(NamedTuple):
    """What the sweep does at this moment, and when."""

    settings: Settings
    #: Why nothing is given up now; None: the next sweep gives up who is silent.
    holds_back: str | None

    def next(self, does: str) -> str:
        """What happens to something whose holder is silent or gone."""
        return self.holds_back or f"the next sweep {does}."


def explain(database: Database, batch_id: str, settings: Settings) -> Explanation:
    """Look what holds a batch, down through its children.

    Raises:
        BatchNotFound: there is no such batch.
    """
    with database.reading() as connection:
        heard = holding.heard(connection, database.tables, settings.lease_timeout)
    return _explain(database, batch_id, _Upkeep(settings, _holding_back(heard, settings)))


def _explain(database: Database, batch_id: str, upkeep: _Upkeep) -> Explanation:
    record = batch(database, batch_id)
    with database.reading() as connection:
        rows = holding.unfinished(connection, database.tables, batch_id, _NAMED)
        number = holding.count(connection, database.tables, batch_id)
        failed = holding.failed_callbacks(connection, database.tables, batch_id, record.round, _NAMED)
    has_jobs = any(row.kind != Kind.CALLBACK for row in rows)
    reasons = [reason for row in rows for reason in _reasons(database, row, upkeep)]
    every = (*_of_batch(record, has_jobs, upkeep.settings), *reasons)
    return Explanation(record, every, number - len(rows), tuple(_failed(row) for row in failed))


def _failed(row: Any) -> Reason:
    then = (
        f"It raised {row.error_class}: the worker's log has the rest. It does not run again by itself: call what "
        "it was to do, or have batch.retry() fire the callbacks of a new round."
    )
    return Reason(f"{row.event} callback", row.id, "failed", row.ended_at, then, row.task)


def _holding_back(heard: holding.Heard, settings: Settings) -> str | None:
    if not heard.is_anybody:
        lease = f"{settings.lease_timeout:g} s"
        return f"no worker is heard of now, and nothing is given up before one has been for {lease}. Start one."
    calm = (heard.without_pause_since or heard.now) + timedelta(seconds=settings.lease_timeout)
    if calm > heard.now:
        return f"nobody was heard of for a while, so nothing is given up before {calm:%H:%M:%S} UTC."
    return None


def _of_batch(record: BatchRecord, has_jobs: bool, settings: Settings) -> list[Reason]:
    if record.settled_at is not None:
        return []
    if record.started_at is None:
        # Also where a child has failed before, and the batch with it.
        then = "Its first block has not ended. Open one (with batch.jobs():), or cancel the batch."
        return [Reason("batch", record.id, str(record.state), record.created_at, then)]
    if not has_jobs:
        then = f"No job is left, but nobody decided: the next sweep does, within {settings.sweep_interval:g} s."
        return [Reason("batch", record.id, "undecided", record.started_at, then)]
    return []


def _reasons(database: Database, row: Any, upkeep: _Upkeep) -> list[Reason]:
    what = _WHAT.get(row.kind, "job") if row.name is None else f"job {row.name!r},"
    what = f"{row.event} callback" if row.kind == Kind.CALLBACK else what
    then = (
        next_of_waiting(database, row, upkeep.settings.sweep_interval) if row.state == JobState.WAITING else None
    )
    if then is not None:
        return [Reason(what, row.id, "waiting", row.enrolled_at, then, row.task or None)]
    if row.kind == Kind.BATCH:
        return _of_child(database, row, upkeep)
    return [Reason(what, row.id, *_of_job(row, upkeep), row.task or None)]


def _of_child(database: Database, row: Any, upkeep: _Upkeep) -> list[Reason]:
    below = _explain(database, row.id, upkeep)
    own = Reason("child batch", row.id, str(below.batch.state), row.enrolled_at, "It waits for what follows.")
    if not below.reasons:
        then = f"It is finished; the sweep ends its row here, every {upkeep.settings.sweep_interval:g} s."
        own = Reason("child batch", row.id, str(below.batch.state), below.batch.settled_at, then)
    return [own, *below.reasons]


def _of_job(row: Any, upkeep: _Upkeep) -> tuple[str, datetime | None, str]:
    state = JobState(row.state)
    if row.kind == Kind.BLOCK:
        return _of_block(row, upkeep)
    if state is JobState.RUNNING:
        return _of_running(row, upkeep)
    if row.publishing_since is not None:
        due = row.publishing_since + timedelta(seconds=upkeep.settings.lease_timeout)
        then = f"Its publisher should be done; at {due:%H:%M:%S} UTC the next sweep publishes it."
        return f"{state}, not published", row.publishing_since, then
    return str(state), _queued_since(row), _next_of_queued(row, upkeep)


def _queued_since(row: Any) -> datetime:
    """Since when a job has been in its queue; for one that is due later, since when it is to be."""
    if row.queued_at is not None and row.queued_at <= row.now:
        return row.queued_at  # type: ignore[no-any-return] # a row's value
    return row.started_at or row.enrolled_at  # type: ignore[no-any-return] # likewise


def _next_of_queued(row: Any, upkeep: _Upkeep) -> str:
    if row.worker_id is not None:
        return _next_in_memory(row, upkeep)
    if row.queued_at is not None and row.queued_at > row.now:
        return f"It is due at {row.queued_at:%Y-%m-%d %H:%M:%S} UTC."
    if row.queue is None:
        return (
            "A worker that consumes its queue takes it. That queue is not known, as an exchange "
            "chose it or Celery sends it, so the sweep can't miss its message: were it gone, cancel the batch and "
            "retry it."
        )
    patience = upkeep.settings.requeue_after * growth(row.delivery)
    return (
        f"A worker that consumes queue {row.queue!r} takes it. Is none there? Start one. Should its "
        f"message be gone, the sweep sends it again after {patience:g} s, once the queue is empty or has been "
        "read that far past it."
    )


def _next_in_memory(row: Any, upkeep: _Upkeep) -> str:
    does = "sends its message again"
    if row.heartbeat_at is None:
        return f"The worker that had its message is gone: {upkeep.next(does)}"
    who = f"{row.hostname}, process {row.pid}, has its message"
    if _silence(row) < upkeep.settings.lease_timeout / 2:
        return f"{who} and runs it in its turn."
    return f"{who}. {_heard('worker', row, upkeep, does)}"


def _of_block(row: Any, upkeep: _Upkeep) -> tuple[str, datetime | None, str]:
    does = "ends it as abandoned"
    if row.heartbeat_at is None:
        return "open, its producer gone", row.enrolled_at, _sentence(upkeep.next(does))
    then = _heard("producer", row, upkeep, does)
    return f"open in {row.hostname}, process {row.pid}", row.enrolled_at, then


def _of_running(row: Any, upkeep: _Upkeep) -> tuple[str, datetime | None, str]:
    does = "gives it up"
    if row.worker_id is None:
        return "running", row.started_at, "It runs outside of a worker."
    if row.heartbeat_at is None:
        return "running on a worker that is gone", row.started_at, _sentence(upkeep.next(does))
    who = f"running on {row.hostname}, process {row.pid}, attempt {row.attempt}"
    return who, row.started_at, _heard("worker", row, upkeep, does)


def _heard(who: str, row: Any, upkeep: _Upkeep, does: str) -> str:
    silence, lease = _silence(row), upkeep.settings.lease_timeout
    if silence < lease / 2:
        return f"The {who} was heard of {silence:.0f} s ago."
    if silence >= lease:
        return f"The {who} is silent for {silence:.0f} s: {upkeep.next(does)}"
    over = row.heartbeat_at + timedelta(seconds=lease)
    return f"The {who} is silent for {silence:.0f} s; its lease ends at {over:%H:%M:%S} UTC."


def _silence(row: Any) -> float:
    silence: float = (row.now - row.heartbeat_at).total_seconds()
    return silence


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
