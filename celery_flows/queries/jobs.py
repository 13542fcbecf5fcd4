"""Lists of jobs, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, overload

from celery_flows.queries.record import JobRecord, JobRecords, job_record, shown_message
from celery_flows.queries.redact import Redact
from celery_flows.shown import html
from celery_flows.shown.words import in_brackets, pretty, short
from celery_flows.states import TERMINAL, JobState
from celery_flows.store import lists
from celery_flows.store.database import Database

_PAGE: Final = 500

#: What is said where a list is shown, which reads nothing.
_UNREAD: Final = ("not read: [:10], list() and len() do",)


def job_name(database: Database, job_id: str) -> str | None:
    """What a job is called in its flow."""
    with database.reading() as connection:
        return lists.name_of(connection, database.tables, job_id)


def named_jobs(database: Database, batch_id: str) -> list[tuple[str, JobState]]:
    """The jobs of a flow that have names, in the order in which they were planned."""
    with database.reading() as connection:
        rows = lists.named(connection, database.tables, batch_id)
    return [(row.name, JobState(row.state)) for row in rows]


@dataclass(frozen=True)
class CallbackRecord:
    """A callback's row at one moment."""

    id: str
    #: "complete", "failure" or "settled".
    event: str
    task: str
    state: JobState
    error_class: str | None
    error_message: str | None
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None


def callbacks(
    database: Database, batch_id: str, round_: int, redact: Redact | None = None
) -> list[CallbackRecord]:
    """The callbacks of a batch's round, in the order in which they were added."""
    with database.reading() as connection:
        rows = lists.callbacks(connection, database.tables, batch_id, round_)
    return [
        CallbackRecord(
            id=row.id,
            event=row.event,
            task=row.task,
            state=JobState(row.state),
            error_class=row.error_class,
            error_message=shown_message(row, redact),
            attempts=row.attempt,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )
        for row in rows
    ]


def jobs_page(
    database: Database,
    batch_id: str,
    *,
    states: Sequence[JobState] = (),
    after: str = "",
    limit: int = 100,
    redact: Redact | None = None,
) -> JobRecords:
    """The next jobs of a batch behind an id, in order of id.

    Each outcome is read from the index by itself, and as far as the page needs it.

    Args:
        states: only those in one of these; none: in any.
    """
    found: list[Any] = []
    with database.reading() as connection:
        for outcome in (None, *TERMINAL):
            meant = [one for one in states if (one if one in TERMINAL else None) == outcome]
            if meant or not states:
                of = None if outcome is None else [outcome]
                unfinished = meant if outcome is None else []
                found += lists.jobs_after(
                    connection, database.tables, batch_id, of, after, limit, states=unfinished
                )
    return JobRecords(job_record(row, redact) for row in sorted(found, key=lambda row: row.id)[:limit])


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
            yield from (job_record(row, self._redact) for row in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def __len__(self) -> int:
        with self._database.reading() as connection:
            return lists.count_jobs(connection, self._database.tables, self._batch_id, self._outcomes)

    @overload
    def __getitem__(self, index: int) -> JobRecord: ...
    @overload
    def __getitem__(self, index: slice) -> JobRecords: ...
    def __getitem__(self, index: int | slice) -> JobRecord | JobRecords:
        if isinstance(index, slice):
            return JobRecords(self._slice(index))
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
        return [job_record(row, self._redact) for row in rows]

    def _said(self) -> str:
        what = "pending" if self._outcomes is None else " or ".join(self._outcomes)
        return f"{what} jobs of batch {short(self._batch_id)}"

    def __repr__(self) -> str:
        return in_brackets(self._said(), _UNREAD)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # IPython's signature
        pretty(printer, self._said(), _UNREAD)

    def _repr_html_(self) -> str:
        return html.card(html.facts(self._said(), *_UNREAD))
