"""What is inside a batch: its children as a tree, and the jobs that failed in it and in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from celery_flows.progress import Progress
from celery_flows.queries.batches import BatchRecord, children
from celery_flows.queries.jobs import JobList
from celery_flows.queries.progress import progress
from celery_flows.queries.record import JobRecord
from celery_flows.queries.redact import Redact
from celery_flows.states import JobState, Kind
from celery_flows.store.database import Database

#: Children of one batch that are shown, and all together.
_OF_ONE: Final = 20
_IN_ALL: Final = 100

#: Failed jobs that are shown.
_FAILED: Final = 10


@dataclass(frozen=True)
class Node:
    """A child batch, with what is inside of it."""

    batch: BatchRecord
    progress: Progress
    inside: Branch


@dataclass(frozen=True)
class Branch:
    """The children of a batch."""

    nodes: tuple[Node, ...]
    #: Whether there are others, which are not shown.
    are_more: bool

    def __iter__(self) -> Iterator[Node]:
        """All of them, each followed by what is inside of it."""
        for node in self.nodes:
            yield node
            yield from node.inside


@dataclass(frozen=True)
class Failed:
    """A job that failed, and where."""

    batch_id: str
    job: JobRecord


def look_inside(database: Database, batch_id: str) -> Branch:
    """Read the children of a batch, and theirs, as far as anybody reads on."""
    return _branch(database, batch_id, iter(range(_IN_ALL)))


def _branch(database: Database, batch_id: str, room: Iterator[int]) -> Branch:
    found = children(database, batch_id, _OF_ONE + 1)
    # All of a batch have room before what is inside of the first. The room is asked last, as asking takes it.
    fitting = [one for one, _ in zip(found[:_OF_ONE], room, strict=False)]
    nodes = [Node(one, progress(database, one.id), _branch(database, one.id, room)) for one in fitting]
    return Branch(tuple(nodes), len(found) > len(nodes))


def failed_jobs(
    database: Database, batch_id: str, branch: Branch, redact: Redact | None
) -> tuple[list[Failed], bool]:
    """The first failed jobs of a batch and of those inside it, and whether there are more."""
    below = [node.batch.id for node in branch if node.progress.failed]
    every = (
        Failed(one, job)
        for one in (batch_id, *below)
        for job in JobList(database, one, [JobState.FAILED], redact)
        if job.kind != Kind.BATCH
    )
    found = list(islice(every, _FAILED + 1))
    return found[:_FAILED], len(found) > _FAILED
