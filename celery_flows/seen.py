"""A batch as it is seen: what is read of it, and what of that is shown at a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from celery_flows.messaging.block import being_there
from celery_flows.messaging.runtime import Runtime
from celery_flows.progress import Progress
from celery_flows.queries.batches import BatchRecord, batch
from celery_flows.queries.jobs import JobList
from celery_flows.queries.progress import progress, total_progress
from celery_flows.shown import html
from celery_flows.shown.words import ago, in_brackets, pretty, quoted, short
from celery_flows.states import JobState


class Seen:
    """What is read of a batch. What it tells is read at that moment; what never changes is read once.

    Showing it reads nothing: it shows what was read last, and how long ago that was.
    """

    def __init__(self, batch_id: str, runtime: Runtime, record: BatchRecord | None = None) -> None:
        #: The batch's id: a text of 36 characters, later ones sorting after earlier ones.
        self.id: str = batch_id
        self._runtime = runtime
        self._record = record
        self._progress: Progress | None = None
        # What it was made with here, as long as nothing has been read.
        self._described: str | None = None

    @property
    def progress(self) -> Progress:
        """How far it has come: one fresh query."""
        with being_there(self._runtime, self.id):
            self._progress = progress(self._runtime.database, self.id)
        return self._progress

    @property
    def total_progress(self) -> Progress:
        """How far it has come with all its children and theirs, whose jobs count in their place: one fresh query.

        A flow inside that is not planned yet counts as one job.
        """
        with being_there(self._runtime, self.id):
            return total_progress(self._runtime.database, self.id)

    @property
    def status(self) -> str:
        """One of "pending", "running", "complete", "failed" and "cancelled": one fresh query."""
        return str(self._read().state)

    @property
    def completed_at(self) -> datetime | None:
        """When its fate was decided, in UTC; None before. One fresh query."""
        return self._read().completed_at

    @property
    def settled_at(self) -> datetime | None:
        """When it was finished, no job being left to run, in UTC; None before. One fresh query."""
        return self._read().settled_at

    @property
    def created_at(self) -> datetime:
        """When it was made, in UTC."""
        return self._known().created_at

    @property
    def context(self) -> Any:
        """What was kept with it."""
        return self._known().context

    @property
    def description(self) -> str | None:
        """What people should read in lists."""
        return self._known().description

    @property
    def tags(self) -> Sequence[str]:
        """The words to find it by."""
        return self._known().tags

    @property
    def kind(self) -> str:
        """The word "batch", or a kind of flow."""
        return self._known().kind

    @property
    def pending_jobs(self) -> JobList:
        """The jobs that have not ended: iterable, sliceable, with a length; read when asked."""
        return self._jobs(None)

    @property
    def failed_jobs(self) -> JobList:
        """The jobs that failed for good."""
        return self._jobs([JobState.FAILED])

    @property
    def completed_jobs(self) -> JobList:
        """The jobs that returned."""
        return self._jobs([JobState.COMPLETE])

    def _jobs(self, outcomes: Sequence[JobState] | None) -> JobList:
        return JobList(self._runtime.database, self.id, outcomes, self._runtime.redact)

    def _read(self) -> BatchRecord:
        with being_there(self._runtime, self.id):
            self._record = batch(self._runtime.database, self.id)
        return self._record

    def _known(self) -> BatchRecord:
        return self._record or self._read()

    def __repr__(self) -> str:
        return in_brackets(_head(self), _facts(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # IPython's signature
        pretty(printer, _head(self), _facts(self))

    def _repr_html_(self) -> str:
        return html.card(html.title(type(self).__name__, self.id, _description(self)), *_lines(self))


# Functions, as users write methods of their own into classes of flows.


def _description(seen: Seen) -> str | None:
    return seen._described if seen._record is None else seen._record.description


def _head(seen: Seen) -> str:
    said = _description(seen)
    return f"{type(seen).__name__} {short(seen.id)}" + (f" {quoted(said)}" if said else "")


def _facts(seen: Seen) -> list[str]:
    """What was read of it last, each with its age; two of the same age share one."""
    record, counts = seen._record, seen._progress
    found = [] if record is None else [(str(record.state), ago(record.age))]
    found += [] if counts is None else [(counts.counts(), ago(counts.age))]
    if len({age for _, age in found}) == 1:
        return [*(said for said, _ in found), f"as of {found[0][1]}"]
    return [f"{said} as of {age}" for said, age in found] or ["not read yet"]


def _lines(seen: Seen) -> Iterator[str]:
    """The same in HTML, with what never changes."""
    record, counts = seen._record, seen._progress
    if record is not None:
        made = f"made {record.created_at:%Y-%m-%d %H:%M:%S} UTC"
        tags = [f"tags: {', '.join(record.tags)}"] if record.tags else []
        yield html.facts(html.state(str(record.state)), made, *tags, html.as_of(record.age))
    if counts is not None:
        yield counts.bar()
        yield html.facts(counts.counts(), html.as_of(counts.age))
    if record is None and counts is None:
        yield html.facts("not read yet: .status and .progress do")
