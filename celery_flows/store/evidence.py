"""What a decision about a batch goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, literal_column, select

from celery_flows.states import WRONG, BatchState, JobState, Kind
from celery_flows.store import tallies
from celery_flows.store.batches import BatchStanding, standing_exclusive, stored_standing
from celery_flows.store.callbacks import Waiting, stored_waiting, waiting
from celery_flows.store.executing import execute, execute_in_turn
from celery_flows.store.jobs import probe
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import KEY


class Evidence(NamedTuple):
    """What was found."""

    #: A job that has not ended.
    unfinished: str | None
    #: A streaming block that was abandoned, or a planning that came to nothing.
    incomplete: str | None
    #: An ended job that counts against the tolerance.
    wrong: str | None
    #: A child that has failed, finished or not.
    failed_child: str | None
    #: What is tallied, where the batch tolerates something.
    total: int = 0
    tallied: int = 0


class Hearing(NamedTuple):
    """Everything that a decision about a batch is made of, while its row is held."""

    batch: BatchStanding | None
    known: Evidence
    #: The callbacks that the decision may be for.
    callbacks: list[Waiting]


def hear(connection: Connection, tables: Tables, batch_id: str) -> Hearing:
    """Take hold of a batch's row, and then look.

    Each is a statement of its own: one that waited for the row would still see what was there when it began.
    """
    standing, found, callbacks = execute_in_turn(
        connection,
        tables,
        (standing_exclusive, {"at_batch": batch_id}),
        (_evidence, {"batch_id": batch_id}),
        (waiting, {"at_batch": batch_id}),
    )
    return Hearing(stored_standing(standing), _stored(found), stored_waiting(tables, callbacks))


def gather(connection: Connection, tables: Tables, batch_id: str) -> Evidence:
    """Look at the jobs and children of a batch."""
    return _stored(execute(connection, tables, _evidence, batch_id=batch_id))


def _stored(rows: Sequence[Any]) -> Evidence:
    [(*found, total, tallied)] = rows
    return Evidence(*found)._replace(total=int(total), tallied=int(tallied))


def is_incomplete(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether there are jobs of a batch that nobody knows, and that no tolerance can count."""
    return bool(execute(connection, tables, _incomplete, batch_id=batch_id))


def _evidence(tables: Tables, dialect: str) -> Select[Any]:
    found = [one(tables, dialect).scalar_subquery() for one in (probe, _incomplete, _wrong, _failed_child)]
    return select(*found, *tallies.sums(tables, bindparam("batch_id", type_=KEY)))


def _incomplete(tables: Tables, dialect: str) -> Select[Any]:
    jobs = tables.jobs
    ended = select(jobs.c.id).where(jobs.c.batch_id == bindparam("batch_id"), one_of(jobs.c.outcome, WRONG))
    without = ended.where(one_of(jobs.c.kind, (Kind.BLOCK, Kind.PLAN)), jobs.c.wrong == literal_column("1"))
    return without.limit(literal_column("1"))


def _wrong(tables: Tables, dialect: str) -> Select[Any]:
    jobs = tables.jobs
    ends = (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)
    ended = select(jobs.c.id).where(jobs.c.batch_id == bindparam("batch_id"), one_of(jobs.c.outcome, ends))
    return ended.where(jobs.c.wrong == literal_column("1")).limit(literal_column("1"))


def _failed_child(tables: Tables, dialect: str) -> Select[Any]:
    batches = tables.batches
    failed = select(batches.c.id).where(batches.c.parent_id == bindparam("batch_id"))
    return failed.where(batches.c.state == word(BatchState.FAILED)).limit(literal_column("1"))
