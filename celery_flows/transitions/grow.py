"""Write jobs that a running job adds: what waits for it waits for them too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from celery_flows.errors import JobTaken
from celery_flows.ids import new_id
from celery_flows.states import BRANCHES, Condition, Kind
from celery_flows.store import edges, jobs
from celery_flows.store.bulk import NewJob, add_jobs
from celery_flows.store.database import Connection
from celery_flows.store.edges import NewEdge
from celery_flows.store.tables import Tables


class Grower(NamedTuple):
    """The running job that adds others, and its claim."""

    job_id: str
    token: str
    batch_id: str
    #: What the added jobs wait for, and what that waits for: it can't wait for them.
    above: Collection[str] = ()
    #: Whether what it adds is a branch that may not be needed: then what waits takes any end of it.
    is_branch: bool = False

    def heard_as(self, condition: str) -> str:
        """How what waits for it in this way waits for what it adds.

        What is there for its failure is so whatever becomes of what it added.
        """
        return Condition.SETTLED if self.is_branch or condition in BRANCHES else condition


def grow(
    connection: Connection, tables: Tables, chunks: Iterable[Sequence[NewJob]], grower: Grower | None = None
) -> None:
    """Write jobs, and let what waits for the job that adds them wait for those that nothing else waits for.

    Raises:
        JobTaken: somebody waits for that job, and it was given up meanwhile.
    """
    heirs = [] if grower is None else _heirs(connection, tables, grower)
    if grower is None or not heirs:
        add_jobs(connection, tables, chunks)
        return
    targets = _targets(connection, tables, grower, heirs)
    added: list[NewEdge] = []
    add_jobs(connection, tables, _inheriting(chunks, grower, targets, added))
    edges.add(connection, tables, added)
    # Who ends the job, or gives it up, writes its row: so either that comes later, or this sees it. As this writes
    # it too, who ends it at this moment sees that what waits for it waits for more now.
    if not jobs.touch_claimed(connection, tables, grower.job_id, grower.token):
        raise JobTaken(job_id=grower.job_id)


def _heirs(connection: Connection, tables: Tables, grower: Grower) -> list[NewEdge]:
    found = edges.dependents(connection, tables, grower.job_id)
    return [heir for heir in found if heir.dependent_id not in grower.above]


def _targets(
    connection: Connection, tables: Tables, grower: Grower, heirs: Sequence[NewEdge]
) -> list[tuple[str, str]]:
    """What each added job is to be waited for by, and how: the heirs themselves, or a join before several."""
    if len(heirs) == 1:
        return [(heirs[0].dependent_id, grower.heard_as(heirs[0].condition))]
    found: list[tuple[str, str]] = []
    for condition in sorted({heir.condition for heir in heirs}):
        join = new_join(grower.batch_id)
        add_jobs(connection, tables, [[join]])
        behind = [heir.dependent_id for heir in heirs if heir.condition == condition]
        edges.add(connection, tables, [NewEdge(join.id, one, Condition.COMPLETE) for one in behind])
        found.append((join.id, grower.heard_as(condition)))
    return found


def new_join(batch_id: str) -> NewJob:
    """Where several meet, for several that wait for all of them."""
    return NewJob(new_id(), batch_id, Kind.JOIN, "", "[]", "{}", "{}", blocks=1, waits=True, is_last=False)


def _inheriting(
    chunks: Iterable[Sequence[NewJob]],
    grower: Grower,
    targets: Sequence[tuple[str, str]],
    added: list[NewEdge],
) -> Iterator[list[NewJob]]:
    for chunk in chunks:
        heard = [_is_heard(job, grower) for job in chunk]
        added += [
            NewEdge(job.id, *one)
            for job, is_heard in zip(chunk, heard, strict=True)
            if is_heard
            for one in targets
        ]
        yield [job._replace(blocks=1) if is_heard else job for job, is_heard in zip(chunk, heard, strict=True)]


def _is_heard(job: NewJob, grower: Grower) -> bool:
    """Whether a job is one that nothing else waits for, in the batch of the job that adds it."""
    return job.batch_id == grower.batch_id and job.is_last and job.announces_id is None
