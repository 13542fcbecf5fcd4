"""Retry a finished batch: a new round, in which jobs run again and callbacks fire again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from celery_flows.errors import BatchNotFound, BatchUnfinished
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import batches, evidence, reopening, rerunning, tallies
from celery_flows.store.batches import BatchStanding
from celery_flows.store.database import Connection, Database
from celery_flows.store.reopening import ChildStanding
from celery_flows.store.tables import Tables
from celery_flows.tolerance import Tolerance
from celery_flows.transitions.release import settle_waiting
from celery_flows.transitions.wrong import count_wrong

#: Jobs that are judged in one statement.
_CHUNK: Final = 500


class Mode(StrEnum):
    """Which jobs run again."""

    FAILED = "failed"
    FAILED_AND_DOWNSTREAM = "failed+downstream"
    ALL = "all"


#: The outcomes that each mode undoes. A skipped job is one that waited for something that failed.
OUTCOMES: Final[dict[Mode, Sequence[JobState]]] = {
    Mode.FAILED: (JobState.FAILED, JobState.CANCELLED),
    Mode.FAILED_AND_DOWNSTREAM: (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED),
    Mode.ALL: (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.COMPLETE),
}


def reopen(database: Database, batch_id: str, mode: Mode) -> list[str]:
    """Open a new round of a batch, of its children that went wrong, and of the ancestors that failed by it.

    In mode "failed+downstream" also of its flows that came after what went wrong, and of all that is in them.

    One transaction, so that no child can finish before its parent waits for it again.

    Returns:
        The batches whose ready jobs are to be published.

    Raises:
        BatchNotFound: there is no such batch.
        BatchUnfinished: it is not finished, so its round is not over.
    """
    return database.transact(_reopen, database.tables, batch_id, mode)


def _reopen(connection: Connection, tables: Tables, batch_id: str, mode: Mode) -> list[str]:
    modes = _modes(connection, tables, batch_id, mode)
    # Children before parents, as everywhere.
    held = {one: _hold(connection, tables, one) for one in reversed(modes)}
    if not held[batch_id].is_finished:
        raise BatchUnfinished(batch_id=batch_id, state=str(held[batch_id].state))
    # A child may have been opened again on its own before it was held.
    again = [one for one in modes if held[one].is_finished]
    for one in again:
        _undo(connection, tables, one, modes[one])
        _start_round(connection, tables, held[one])
    for one in again:
        _follow_children(connection, tables, one, _children(connection, tables, one))
    begun = _put_in_order(connection, tables, again, held)
    begun |= _reopen_above(connection, tables, held[batch_id], goes_on=mode is not Mode.FAILED)
    return [*again, *(one for one in begun if one not in again)]


def _undo(connection: Connection, tables: Tables, batch_id: str, mode: Mode) -> None:
    """Let jobs of a batch that ended be ready again, and flows in it that had not begun wait again."""
    behind: list[str] = []
    if mode is Mode.FAILED_AND_DOWNSTREAM:
        behind = _behind(connection, tables, batch_id)
        reopening.undo_jobs(connection, tables, behind, OUTCOMES[Mode.ALL])
    unbegun = rerunning.unbegun(connection, tables, batch_id)
    reopening.undo(connection, tables, batch_id, OUTCOMES[mode], unneeded=mode is Mode.ALL)
    for one in unbegun:
        is_meant = one.state != JobState.SKIPPED or one.is_wrong or mode is Mode.ALL
        if one.id in behind or (one.state in OUTCOMES[mode] and is_meant):
            rerunning.rewind(connection, tables, one.id)


def _put_in_order(
    connection: Connection, tables: Tables, again: Sequence[str], held: Mapping[str, BatchStanding]
) -> dict[str, None]:
    """Let jobs and flows that run again wait for those before them that do, and begin what waits for none.

    Args:
        again: the batches, parents before their children.

    Returns:
        The batches in which jobs became ready by it.
    """
    for one in again:
        rerunning.open_edges(connection, tables, one)
        rerunning.wait_in_order(connection, tables, one)
    waiting: set[str] = set()
    for one in again[1:]:
        if held[one].parent_id in waiting or rerunning.must_wait(connection, tables, one):
            rerunning.hold_back(connection, tables, one)
            waiting.add(one)
    found: dict[str, None] = {}
    for one in again:
        if one not in waiting:
            found |= _begin_due(connection, tables, one)
    return found


def _begin_due(connection: Connection, tables: Tables, batch_id: str) -> dict[str, None]:
    """Judge what waits in a batch for nothing any more; the batches in which something came of it."""
    due = rerunning.due(connection, tables, batch_id)
    waves = [
        settle_waiting(connection, tables, due[first : first + _CHUNK]) for first in range(0, len(due), _CHUNK)
    ]
    found = {job.batch_id: None for wave in waves for job in wave.ready if job.batch_id is not None}
    return found | ({batch_id: None} if any(wave.ended for wave in waves) else {})


def _modes(connection: Connection, tables: Tables, batch_id: str, mode: Mode) -> dict[str, Mode]:
    """The batches that run again, parents first, and how: one that comes after what went wrong runs as a whole."""
    found, waiting = {batch_id: mode}, [batch_id]
    while waiting:
        current = waiting.pop()
        behind = _behind(connection, tables, current) if found[current] is Mode.FAILED_AND_DOWNSTREAM else []
        for child in reopening.finished_children(connection, tables, current):
            if found[current] is Mode.ALL or child.id in behind:
                found[child.id] = Mode.ALL
            elif child.state is not BatchState.COMPLETE:
                found[child.id] = found[current]
            else:
                continue
            waiting.append(child.id)
    return found


def _behind(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """What comes after the jobs of a batch that went wrong."""
    wrong = rerunning.seeds(connection, tables, batch_id)
    return rerunning.downstream(connection, tables, wrong, over_flows=True)


def _hold(connection: Connection, tables: Tables, batch_id: str) -> BatchStanding:
    batch = batches.standing(connection, tables, batch_id, "exclusive")
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    return batch


def _reopen_above(
    connection: Connection, tables: Tables, child: BatchStanding, *, goes_on: bool
) -> dict[str, None]:
    """Let the parent wait for its child again, and so on up, as long as a parent had failed by it.

    A parent that is not over just waits. One that tolerated the child, or would have failed without it, stays
    as it is: what its callbacks said is still true.

    Args:
        goes_on: whether what had waited for the child in vain waits for it again.

    Returns:
        The batches in which something comes of that at once, as it waits for nothing that runs again.
    """
    while child.parent_id is not None:
        parent = batches.standing(connection, tables, child.parent_id, "exclusive")
        if parent is None:
            break
        children = _children(connection, tables, parent.id)
        # Others may run again by themselves, where the parent had failed by several.
        again = [child.id] if not parent.is_finished else [one.id for one in children if not one.is_over]
        behind = rerunning.downstream(connection, tables, again)
        if not parent.is_finished:
            if reopening.wait_for_child(connection, tables, child.id):
                count_wrong(connection, tables, parent.id, by=-1)
            # Its round goes on, and in one round nothing is complete twice.
            vain = OUTCOMES[Mode.FAILED_AND_DOWNSTREAM]
            _wait_behind(connection, tables, parent.id, behind, vain if goes_on else [])
            return _begin_due(connection, tables, parent.id)
        if parent.state is not BatchState.FAILED or _is_still_too_much(
            connection, tables, parent, children, behind if goes_on else []
        ):
            break
        _next_round(connection, tables, parent)
        _wait_behind(connection, tables, parent.id, behind, OUTCOMES[Mode.ALL] if goes_on else [])
        _follow_children(connection, tables, parent.id, children)
        rerunning.open_edges(connection, tables, parent.id)
        child = parent
    return {}


def _wait_behind(
    connection: Connection, tables: Tables, parent_id: str, behind: Sequence[str], undone: Sequence[JobState]
) -> None:
    """Let what waited for a child in its parent wait for it again, also what ended in one of these ways."""
    if undone:
        wrong = reopening.wrong_jobs(connection, tables, parent_id)
        reopening.undo_jobs(connection, tables, behind, undone)
        for one in rerunning.unbegun(connection, tables, parent_id):
            if one.id in behind:
                rerunning.rewind(connection, tables, one.id)
        no_longer = wrong - reopening.wrong_jobs(connection, tables, parent_id)
        if no_longer:
            count_wrong(connection, tables, parent_id, by=-no_longer)
    rerunning.open_edges(connection, tables, parent_id)
    rerunning.wait_in_order(connection, tables, parent_id, behind)


def _children(connection: Connection, tables: Tables, batch_id: str) -> list[ChildStanding]:
    return reopening.children(connection, tables, batch_id)


def _is_still_too_much(
    connection: Connection,
    tables: Tables,
    batch: BatchStanding,
    children: Sequence[ChildStanding],
    behind: Sequence[str],
) -> bool:
    """Whether a batch would have failed as its children stand now, without what waits for one of them again."""
    if evidence.is_incomplete(connection, tables, batch.id):
        return True
    wrong = reopening.wrong_jobs(connection, tables, batch.id, behind) + sum(child.is_wrong for child in children)
    total, _ = tallies.read(connection, tables, batch.id)
    return wrong > Tolerance.parse(batch.tolerate).limit(total)


def _follow_children(
    connection: Connection, tables: Tables, batch_id: str, children: Sequence[ChildStanding]
) -> None:
    """Let the rows of a reopened batch's children say how these stand now, and count what is wrong anew."""
    for child in children:
        if child.is_over:
            reopening.restate_child(connection, tables, child)
        else:
            reopening.wait_for_child(connection, tables, child.id, is_wrong=child.is_wrong)
    tallies.forget_wrong(connection, tables, batch_id)
    wrong = reopening.wrong_jobs(connection, tables, batch_id) + sum(child.is_wrong for child in children)
    if wrong:
        count_wrong(connection, tables, batch_id, by=wrong)


def _start_round(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    reopening.forgive(connection, tables, batch.id)
    _next_round(connection, tables, batch)


def _next_round(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    reopening.start_round(connection, tables, batch.id)
    for callback in reopening.callbacks(connection, tables, batch.id, batch.round):
        reopening.repeat_callback(connection, tables, callback, new_id(), batch.round + 1)
