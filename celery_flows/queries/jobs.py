"""Jobs as they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, overload

from celery_flows.codec import decode
from celery_flows.errors import InvalidSetting
from celery_flows.states import JobState
from celery_flows.store import lists
from celery_flows.store.database import Database


@dataclass(frozen=True)
class Redact:
    """What hides arguments and errors where jobs are shown."""

    #: Takes a task's name, args and kwargs, and gives args and kwargs.
    arguments: Callable[[str, list[Any], dict[str, Any]], tuple[list[Any], dict[str, Any]]] | None = None
    #: Takes a task's name and an error's message, and gives a message.
    error: Callable[[str, str], str] | None = None

    @classmethod
    def of(cls, given: Any) -> Redact | None:
        """Take what a user gave: a function for arguments, or an object with methods for either.

        Raises:
            InvalidSetting: it is none of these.
        """
        if given is None:
            return None
        found = cls(getattr(given, "arguments", None), getattr(given, "error", None))
        if found != cls():
            return found
        if not callable(given):
            raise InvalidSetting(
                name="flows_redact",
                value=given,
                allowed="a function (task, args, kwargs) -> (args, kwargs), or an object with the methods "
                "arguments(task, args, kwargs) and error(task, message), or one of them",
            )
        return cls(given)


_PAGE: Final = 500


@dataclass(frozen=True)
class JobRecord:
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


def job_name(database: Database, job_id: str) -> str | None:
    """What a job is called in its flow."""
    with database.reading() as connection:
        return lists.name_of(connection, database.tables, job_id)


def named_jobs(database: Database, batch_id: str) -> list[tuple[str, JobState]]:
    """The jobs of a flow that have names, in the order in which they were planned."""
    with database.reading() as connection:
        rows = lists.named(connection, database.tables, batch_id)
    return [(row.name, JobState(row.state)) for row in rows]


def callbacks(database: Database, batch_id: str, round_: int) -> list[tuple[str, JobRecord]]:
    """The callbacks of a batch's round, each with the event that it waits for."""
    with database.reading() as connection:
        rows = lists.callbacks(connection, database.tables, batch_id, round_)
    return [(row.event, _record(row, None)) for row in rows]


class JobList(Sequence[JobRecord]):
    """A batch's jobs of one sort, in order of id, read when they are asked for.

    Iterating reads pages; `len()`, an index and a slice are one query each, from the end two.
    """

    def __init__(
        self,
        database: Database,
        batch_id: str,
        outcomes: Sequence[JobState] | None,
        redact: Redact | None = None,
    ) -> None:
        self._database = database
        self._redact = redact
        self._batch_id = batch_id
        self._outcomes = outcomes

    def __iter__(self) -> Iterator[JobRecord]:
        after = ""
        while True:
            with self._database.reading() as connection:
                rows = lists.jobs_after(
                    connection, self._database.tables, self._batch_id, self._outcomes, after, _PAGE
                )
            yield from (_record(row, self._redact) for row in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def __len__(self) -> int:
        with self._database.reading() as connection:
            return lists.count_jobs(connection, self._database.tables, self._batch_id, self._outcomes)

    @overload
    def __getitem__(self, index: int) -> JobRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[JobRecord]: ...
    def __getitem__(self, index: int | slice) -> JobRecord | list[JobRecord]:
        if isinstance(index, slice):
            return self._slice(index)
        offset = index if index >= 0 else len(self) + index
        found = self._read(offset, 1) if offset >= 0 else []
        if not found:
            raise IndexError(f"there is no job {index}")
        return found[0]

    def _slice(self, part: slice) -> list[JobRecord]:
        if min(part.start or 0, part.stop or 0, 1 if part.step is None else part.step) >= 0:
            start = part.start or 0
            limit = None if part.stop is None else max(0, part.stop - start)
            return self._read(start, limit)[:: part.step]
        # From the end, or backwards: the length first, then all between the ends.
        wanted = range(len(self))[part]
        if not wanted:
            return []
        first = min(wanted[0], wanted[-1])
        found = self._read(first, max(wanted[0], wanted[-1]) - first + 1)
        return [found[at - first] for at in wanted if at - first < len(found)]

    def _read(self, offset: int, limit: int | None) -> list[JobRecord]:
        with self._database.reading() as connection:
            rows = lists.jobs(
                connection, self._database.tables, self._batch_id, self._outcomes, offset=offset, limit=limit
            )
        return [_record(row, self._redact) for row in rows]

    def __repr__(self) -> str:
        what = "pending" if self._outcomes is None else " or ".join(self._outcomes)
        return f"<{what} jobs of batch {self._batch_id}>"


def _record(row: Any, redact: Redact | None) -> JobRecord:
    args, kwargs = decode(row.args) or [], decode(row.kwargs) or {}
    message = row.error_message
    if redact is not None and redact.arguments is not None:
        args, kwargs = redact.arguments(row.task, args, kwargs)
    if redact is not None and redact.error is not None and message is not None:
        message = redact.error(row.task, message)
    return JobRecord(
        id=row.id,
        kind=row.kind,
        task=row.task,
        args=args,
        kwargs=kwargs,
        state=JobState(row.state),
        error_class=row.error_class,
        error_message=message,
        attempts=row.attempt,
        enrolled_at=row.enrolled_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        name=row.name,
    )
