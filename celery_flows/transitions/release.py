"""Release what waited for a job that has ended: waiting -> ready, or skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from celery_flows.codec import decode, encode
from celery_flows.states import JobState, Kind, Takes
from celery_flows.store import batches, edges, jobs, nested, publishing, rerunning
from celery_flows.store.database import Connection, Database
from celery_flows.store.edges import Verdict
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.wrong import count_wrong

#: Jobs released in one transaction.
_CHUNK: Final = 500


class Released(NamedTuple):
    """What came of it."""

    #: Jobs to publish.
    ready: list[ReadyJob]
    #: Whether jobs were skipped that count against their batch's tolerance.
    went_wrong: bool


@dataclass
class Wave:
    """What came of one transaction."""

    ready: list[ReadyJob] = field(default_factory=list)
    #: Jobs that ended by it, and for which others wait.
    ended: list[str] = field(default_factory=list)
    went_wrong: bool = False


def release(database: Database, job_id: str) -> Released:
    """See to what waits for a job whose outcome is committed, and to what waits for that, and so on.

    As at the end of a batch, each commits before it looks: first the job's edges are closed, then those
    dependents are looked for that have no open edge left; under their locks it is asked again. What ends
    by that, a join or a job that is skipped, has a release of its own after the commit. A crash between
    leaves `releasing_since` set, by which the sweep finds it.
    """
    ready, went_wrong, waiting = list[ReadyJob](), False, [job_id]
    while waiting:
        current = waiting.pop()
        database.run(edges.close, at_id=current)
        for due in _due(database, current):
            wave = database.transact(settle_waiting, database.tables, due)
            ready += wave.ready
            waiting += wave.ended
            went_wrong = went_wrong or wave.went_wrong
        database.run(edges.forget_release, at_id=current)
    return Released(ready, went_wrong)


def _due(database: Database, job_id: str) -> Iterator[list[str]]:
    after = ""
    while True:
        _, rows = database.run(edges.due, at_id=job_id, after=after, most=_CHUNK)
        found = [row[0] for row in rows]
        if found:
            yield found
        if len(found) < _CHUNK:
            return
        after = found[-1]


def release_all(database: Database, batch_id: str) -> list[ReadyJob]:
    """Release what waits for jobs of a batch that have ended, as joins of a new round do with its beginning."""
    with database.reading() as connection:
        ended = rerunning.unreleased(connection, database.tables, batch_id)
    return [job for one in ended for job in release(database, one).ready]


def settle_waiting(connection: Connection, tables: Tables, ids: Sequence[str]) -> Wave:
    """Lock jobs that waited, and let each become ready, or end, as what it waited for has ended."""
    if not ids:
        return Wave()
    verdicts = edges.judge(connection, tables, edges.hold_waiting(connection, tables, ids))
    due = [one for one in verdicts if one.is_due]
    skipped = [one for one in verdicts if not one.is_due]
    calls = [one for one in due if one.job.kind in (Kind.TASK, Kind.PLAN)]
    joins = [one for one in due if one.job.kind == Kind.JOIN]
    wave = Wave(_make_ready(connection, tables, calls), went_wrong=any(one.is_wrong for one in skipped))
    for one in joins:
        _end_join(connection, tables, one)
    for one in due:
        if one.job.kind == Kind.BATCH:
            _start_child(connection, tables, one.job.id, wave)
    _skip(connection, tables, skipped)
    wave.ended += [one.job.id for one in (*skipped, *joins)]
    return wave


def _make_ready(connection: Connection, tables: Tables, due: list[Verdict]) -> list[ReadyJob]:
    plain = [one.job for one in due if one.takes is None]
    if plain:
        edges.make_ready(connection, tables, [job.id for job in plain])
    taking = [(_with_results(connection, tables, one), one.takes) for one in due if one.takes is not None]
    for job, takes in taking:
        edges.make_ready(connection, tables, [job.id], job.args, takes)
    return [
        job._replace(state=JobState.READY, delivery=job.delivery + 1)
        for job in (*plain, *(job for job, _ in taking))
    ]


def _with_results(connection: Connection, tables: Tables, one: Verdict) -> ReadyJob:
    found = [decode(text) for text in edges.results(connection, tables, one.job.id)]
    taken = [found] if one.takes == Takes.LIST else found[:1]
    return one.job._replace(args=encode([*taken, *decode(one.job.args)]))


def _end_join(connection: Connection, tables: Tables, one: Verdict) -> None:
    result = None
    if one.takes is not None:
        [result] = decode(_with_results(connection, tables, one).args)
    edges.end_waiting(connection, tables, [one.job.id], JobState.COMPLETE, result=encode(result))


def _start_child(connection: Connection, tables: Tables, child_id: str, wave: Wave) -> None:
    """Let a nested flow be planned; one that runs again begins with what waits in it for nothing else."""
    batches.start(connection, tables, child_id)
    jobs.start_child(connection, tables, child_id)
    waiting = nested.waiting(connection, tables, child_id)
    first = [one for one in waiting if not one.has_edges]
    calls = [one.id for one in first if one.kind != Kind.BATCH]
    edges.make_ready(connection, tables, calls)
    wave.ready += publishing.ready_among(connection, tables, calls)
    for one in first:
        if one.kind == Kind.BATCH:
            _start_child(connection, tables, one.id, wave)
    judged = settle_waiting(connection, tables, [one.id for one in waiting if one.has_edges])
    wave.ready += judged.ready
    wave.ended += judged.ended


def _skip(connection: Connection, tables: Tables, skipped: list[Verdict]) -> None:
    for is_wrong in (False, True):
        ids = [one.job.id for one in skipped if one.is_wrong is is_wrong]
        if ids:
            edges.end_waiting(connection, tables, ids, JobState.SKIPPED, wrong=is_wrong)
    children = [one.job.id for one in skipped if one.job.kind == Kind.BATCH]
    for child_id in children:
        nested.end_unbegun(connection, tables, child_id)
    counted = Counter(one.job.batch_id for one in skipped if one.is_wrong and one.job.kind != Kind.JOIN)
    for batch_id, number in counted.items():
        if batch_id is not None:
            count_wrong(connection, tables, batch_id, by=number)
