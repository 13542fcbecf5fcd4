"""Decide a batch's fate, and that it is finished; arm its callbacks; tell its parent."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from celery_flows.states import BatchState, Event, JobState
from celery_flows.store import batches, callbacks, evidence, jobs
from celery_flows.store.batches import BatchStanding, Outlook
from celery_flows.store.database import Connection, Database
from celery_flows.store.evidence import Evidence
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import Asked
from celery_flows.store.tables import Tables
from celery_flows.tolerance import Tolerance
from celery_flows.transitions.release import release
from celery_flows.transitions.wrong import count_wrong

logger = logging.getLogger(__name__)

_EVENT_OF_FATE = {BatchState.COMPLETE: Event.COMPLETE, BatchState.FAILED: Event.FAILURE}


class Step(NamedTuple):
    """What one decision led to."""

    ready: list[ReadyJob]
    #: The parent, where its row for this batch changed.
    parent_id: str | None = None
    #: Whether that row ended, so that what waits for it in the parent is to be released.
    has_ended: bool = False


def look(batch_id: str, *, went_wrong: bool) -> Asked:
    """The one indexed read that says whether something may be decided about a batch; it locks nothing."""
    return (batches.outlook if went_wrong else jobs.probe), {"batch_id": batch_id}


def advance(
    database: Database, batch_id: str, *, went_wrong: bool = False, seen: list[Any] | None = None
) -> list[ReadyJob]:
    """Look whether something can be decided about a batch, and decide it, and so on up its parents.

    Only when no unfinished job is left, or too much went wrong, the batch's row is locked.

    Args:
        went_wrong: a job, or a child, counts against the tolerance now.
        seen: what has been found already, by a look that began after whatever happened was committed.

    Returns:
        Callbacks that became ready.
    """
    ready: list[ReadyJob] = []
    current: str | None = batch_id
    while current is not None:
        step = Step([])
        if is_decidable(database, current, went_wrong=went_wrong, seen=seen):
            step = database.transact(finalize, database.tables, current)
        ready += step.ready
        if step.has_ended:
            ready += release(database, current).ready
        current, went_wrong, seen = step.parent_id, True, None
    return ready


def is_decidable(database: Database, batch_id: str, *, went_wrong: bool, seen: list[Any] | None = None) -> bool:
    """Whether too much went wrong, or no unfinished job is left, as far as can be seen without a lock."""
    rows = database.run_in_turn(look(batch_id, went_wrong=went_wrong))[0][1] if seen is None else seen
    if not went_wrong:
        return not rows
    if not rows:
        return False
    outlook = Outlook(*rows[0])
    return outlook.unfinished is None or (
        outlook.is_undecided and _may_be_too_much(outlook) and _is_too_much(database, batch_id)
    )


def _may_be_too_much(outlook: Outlook) -> bool:
    tolerance = Tolerance.parse(outlook.tolerate)
    return tolerance.is_none or outlook.wrong > tolerance.limit(int(outlook.total))


def finalize(connection: Connection, tables: Tables, batch_id: str) -> Step:
    """Decide, under the batch's lock, what can be decided now.

    Whether a job is unfinished is asked once the lock is held.
    """
    batch, known, waiting = evidence.hear(connection, tables, batch_id)
    if batch is None or batch.is_finished:
        return Step([])
    is_finished = batch.has_begun and known.unfinished is None
    fate = _fate(connection, tables, batch, known, is_finished)
    events = [] if fate is None else [_EVENT_OF_FATE[fate]]
    if is_finished:
        batches.finish(connection, tables, batch_id, fate)
        events.append(Event.SETTLED)
    elif fate is not None:
        batches.decide(connection, tables, batch_id, fate)
    ready: list[ReadyJob] = []
    if events:
        ready = callbacks.arm(connection, tables, batch_id, waiting, events, are_last=is_finished)
    logger.debug("batch %s: fate %s, finished %s", batch_id, fate, is_finished)
    return Step(ready, *_tell_parent(connection, tables, batch, fate))


def report(database: Database, batch_id: str) -> list[ReadyJob]:
    """Look whether a finished child batch, whose callback just ended, can end its row in its parent."""
    with database.reading() as connection:
        batch = batches.standing(connection, database.tables, batch_id)
    if batch is None or batch.parent_id is None:
        return []
    step = database.transact(_report, database.tables, batch_id)
    ready = release(database, batch_id).ready if step.has_ended else []
    return [*ready, *advance(database, step.parent_id, went_wrong=True)] if step.parent_id is not None else ready


def _report(connection: Connection, tables: Tables, batch_id: str) -> Step:
    batch = batches.standing(connection, tables, batch_id, "exclusive")
    return Step([]) if batch is None else Step([], *_tell_parent(connection, tables, batch, None))


def _tell_parent(
    connection: Connection, tables: Tables, batch: BatchStanding, fate: BatchState | None
) -> tuple[str | None, bool]:
    """Write into the parent what became of this batch: a failure at once, the end after its callbacks.

    Returns:
        The parent, where something was written into it, and whether that was the end.
    """
    if batch.parent_id is None:
        return None, False
    has_failed = fate is BatchState.FAILED and jobs.mark_wrong(connection, tables, batch.id)
    if has_failed:
        count_wrong(connection, tables, batch.parent_id)
    now = batches.standing(connection, tables, batch.id)
    if now is None or not now.is_finished or callbacks.is_pending(connection, tables, batch.id):
        return (batch.parent_id if has_failed else None), False
    has_ended = jobs.end_child(connection, tables, batch.id, JobState(now.state))
    if has_ended and now.state is BatchState.CANCELLED:
        # As a job that was revoked: what its parent was to do has not been done.
        jobs.mark_wrong(connection, tables, batch.id)
        count_wrong(connection, tables, batch.parent_id)
    return batch.parent_id, has_ended


def _fate(
    connection: Connection, tables: Tables, batch: BatchStanding, known: Evidence, is_finished: bool
) -> BatchState | None:
    if not batch.is_undecided:
        return None
    if _must_fail(connection, tables, batch, known):
        return BatchState.FAILED
    return BatchState.COMPLETE if is_finished else None


def must_fail(connection: Connection, tables: Tables, batch: BatchStanding) -> bool:
    """Whether more went wrong in a batch than it tolerates, or there are jobs of it that nobody knows."""
    return _must_fail(connection, tables, batch, evidence.gather(connection, tables, batch.id))


def _must_fail(connection: Connection, tables: Tables, batch: BatchStanding, known: Evidence) -> bool:
    return known.incomplete is not None or _exceeds_tolerance(connection, tables, batch, known)


def _is_too_much(database: Database, batch_id: str) -> bool:
    with database.reading() as connection:
        batch = batches.standing(connection, database.tables, batch_id)
        # While it can't be too much, nobody looks at all that went wrong, or each failure would cost more.
        if batch is None or not batch.is_undecided or _is_put_off(connection, database.tables, batch):
            return False
        known = evidence.gather(connection, database.tables, batch_id)
        return _exceeds_tolerance(connection, database.tables, batch, known)


def _exceeds_tolerance(connection: Connection, tables: Tables, batch: BatchStanding, known: Evidence) -> bool:
    tolerance = Tolerance.parse(batch.tolerate)
    if tolerance.is_none:
        return known.wrong is not None or known.failed_child is not None
    return not _is_put_off(connection, tables, batch) and known.tallied > tolerance.limit(known.total)


def _is_put_off(connection: Connection, tables: Tables, batch: BatchStanding) -> bool:
    """Whether a batch tolerates a share of its jobs, and these are not all known yet."""
    return Tolerance.parse(batch.tolerate).is_share and jobs.has_open_block(connection, tables, batch.id)
