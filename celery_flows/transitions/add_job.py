"""Add a call to a flow that runs, behind jobs that may be ending at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from celery_flows.errors import PlanInvalid
from celery_flows.states import Condition
from celery_flows.store import edges, lists
from celery_flows.store.database import Connection, Database
from celery_flows.store.publishing import ReadyJob, ready_among
from celery_flows.store.tables import Tables
from celery_flows.transitions.enroll import Grower, Nested, NewEdge, NewJob, Share, enroll
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.grow import new_join
from celery_flows.transitions.release import release, settle_waiting


class Addition(NamedTuple):
    """A job to add, or several, and what they wait for."""

    #: Those that begin.
    first: Sequence[str]
    batch_id: str
    rows: Sequence[NewJob | NewEdge | Nested]
    before: Sequence[str]
    condition: str
    grower: Grower | None


class _Added(NamedTuple):
    ready: list[ReadyJob]
    #: Jobs that ended at once, as those that they wait for had: joins, and what was skipped.
    ended: list[str]


def add_job(database: Database, addition: Addition) -> list[ReadyJob]:
    """Write the jobs and their edges, then see, under the locks of those that they wait for, which have ended.

    Who ends one of them writes its row, and looks for edges after that: so either it finds the new edge, or
    this finds the job ended, and decides itself.

    Returns:
        Jobs that became ready: the first, if nothing is left to wait for; where they are skipped, callbacks.

    Raises:
        PlanInvalid: a name is taken, or what is to be waited for is no job of this flow.
        BatchFinished: the batch is finished.
        JobTaken: the job that adds them was given up meanwhile.
    """
    ready, ended = database.transact(_add, database.tables, addition)
    for job_id in ended:
        # Somebody may wait for it already, and it may be its batch's last.
        ready += release(database, job_id).ready
        ready += advance(database, addition.batch_id, went_wrong=True)
    return ready


def _add(connection: Connection, tables: Tables, addition: Addition) -> _Added:
    calls = [row for row in addition.rows if isinstance(row, NewJob)]
    _check_name(connection, tables, addition, calls)
    _check_before(connection, tables, addition)
    joins, behind = _behind(addition)
    grower = addition.grower
    if grower is not None and behind:
        grower = grower._replace(above=edges.above(connection, tables, addition.before))
    waits = [*behind, *(row for row in addition.rows if isinstance(row, NewEdge))]
    flows = [row for row in addition.rows if isinstance(row, Nested)]
    share = Share(addition.batch_id, sum(call.counts_in(addition.batch_id) for call in calls), starts=False)
    enroll(connection, tables, [[*joins, *calls]], [share], waits=[waits], flows=[flows], grower=grower)
    if not behind:
        return _Added(ready_among(connection, tables, [call.id for call in calls]), [])
    waiting = [join.id for join in joins] or addition.first
    ended = edges.let_block(connection, tables, addition.before)
    if ended:
        edges.close_from(connection, tables, ended, waiting)
    wave = settle_waiting(connection, tables, waiting)
    return _Added(wave.ready, wave.ended)


def _behind(addition: Addition) -> tuple[list[NewJob], list[NewEdge]]:
    """The edges by which the first jobs wait, and a join where several wait for several."""
    before, first = addition.before, addition.first
    joins = [new_join(addition.batch_id)] if len(before) > 1 and len(first) > 1 else []
    onward = [NewEdge(join.id, one, Condition.COMPLETE) for join in joins for one in first]
    waiting = [join.id for join in joins] or first
    return joins, [*(NewEdge(one, other, addition.condition) for one in before for other in waiting), *onward]


def _check_name(connection: Connection, tables: Tables, addition: Addition, calls: Sequence[NewJob]) -> None:
    for name in (call.name for call in calls if call.name is not None):
        if lists.job_named(connection, tables, addition.batch_id, name) is not None:
            raise PlanInvalid(problem=f"the flow has a job named {name!r} already")


def _check_before(connection: Connection, tables: Tables, addition: Addition) -> None:
    known = edges.among(connection, tables, addition.batch_id, addition.before)
    for one in set(addition.before) - known:
        raise PlanInvalid(problem=f"after={one!r} is no job of this flow")
