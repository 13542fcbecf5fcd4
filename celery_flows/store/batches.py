"""What is said to the database about batches, one function per operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Executable,
    Insert,
    Select,
    Update,
    bindparam,
    case,
    exists,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from celery_flows.codec import seal
from celery_flows.errors import BatchExists
from celery_flows.states import BatchState, JobState
from celery_flows.store import tallies
from celery_flows.store.executing import execute, execute_later, say_now
from celery_flows.store.jobs import probe
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import KEY, utcnow

UNDECIDED = (BatchState.PENDING, BatchState.RUNNING)


class BatchStanding(NamedTuple):
    """What a decision about a batch needs to know of it."""

    id: str
    state: BatchState
    tolerate: str
    round: int
    parent_id: str | None
    #: Whether its first block has ended, or it was cancelled before that.
    has_begun: bool
    is_finished: bool
    is_flow: bool

    @property
    def is_undecided(self) -> bool:
        """Whether it has no fate yet."""
        return self.state in UNDECIDED


def add(connection: Connection, tables: Tables, **values: Any) -> None:
    """Write a new batch.

    Raises:
        BatchExists: an unfinished batch has its key; the transaction can go on.
    """
    key = values.get("open_key")
    if key is not None:
        claim_key(connection, tables, key, _add(tables, connection.dialect.name).values(values))
        return
    sealed = {name: seal(tables.codec, values[name]) for name in _SEALED}
    execute_later(connection, tables, _add, **{f"to_{name}": one for name, one in (values | sealed).items()})


#: What a codec may encrypt, which statements that go around the column types do not.
_SEALED: Final = ("context", "plan")

#: What is said of a new batch.
_GIVEN: Final = ("id", "kind", "description", "context", "tags", "tolerate", "on_loss", "parent_id")
_GIVEN_OF_FLOWS: Final = ("flow", "plan", "memory_id", "batch_key", "open_key")


def _add(tables: Tables, dialect: str) -> Insert:
    given: dict[str, Any] = {name: bindparam(f"to_{name}") for name in (*_GIVEN, *_GIVEN_OF_FLOWS)}
    first = {"state": word(BatchState.PENDING), "round": literal_column("1"), "created_at": utcnow()}
    return insert(tables.batches).values({**first, **given})


def claim_key(connection: Connection, tables: Tables, key: str, statement: Executable) -> None:
    """Run a statement that takes a key for a batch.

    Raises:
        BatchExists: an unfinished batch has it; the transaction can go on.
    """
    batches = tables.batches
    # What is said before may fail too, and not for the key.
    say_now(connection)
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except IntegrityError as error:
        holder = connection.scalar(select(batches.c.id).where(batches.c.open_key == key))
        if holder is None:
            raise
        raise BatchExists(key=key, batch_id=holder) from error


def standing(
    connection: Connection, tables: Tables, batch_id: str, lock: str | None = None
) -> BatchStanding | None:
    """Read where a batch stands.

    Args:
        lock: None reads what is committed; "exclusive" and "shared" wait for whoever holds the row,
            and then read it as it is.
    """
    return stored_standing(execute(connection, tables, _STANDING[lock], at_batch=batch_id))


def stored_standing(rows: Sequence[Any]) -> BatchStanding | None:
    """Read where a batch stands from what a statement gave."""
    if not rows:
        return None
    [row] = rows
    is_so = [bool(one) for one in row[5:]]
    return BatchStanding(row[0], BatchState(row[1]), row[2], row[3], row[4], *is_so)


def _standing(tables: Tables, dialect: str) -> Select[Any]:
    batches = tables.batches
    return select(
        batches.c.id,
        batches.c.state,
        batches.c.tolerate,
        batches.c.round,
        batches.c.parent_id,
        batches.c.started_at.is_not(None),
        batches.c.settled_at.is_not(None),
        batches.c.flow.is_not(None),
    ).where(batches.c.id == bindparam("at_batch"))


def _standing_shared(tables: Tables, dialect: str) -> Select[Any]:
    return _standing(tables, dialect).with_for_update(read=True)


def standing_exclusive(tables: Tables, dialect: str) -> Select[Any]:
    """Read where the batch `:at_batch` stands, once nobody else holds its row."""
    return _standing(tables, dialect).with_for_update()


_STANDING: Final = {None: _standing, "shared": _standing_shared, "exclusive": standing_exclusive}


class Outlook(NamedTuple):
    """What says, without a lock, whether something may be decided about a batch."""

    state: BatchState
    tolerate: str
    #: What is tallied, where the batch tolerates something.
    total: int
    wrong: int
    #: A job that has not ended.
    unfinished: str | None

    @property
    def is_undecided(self) -> bool:
        """Whether it has no fate yet."""
        return self.state in UNDECIDED


def outlook(tables: Tables, dialect: str) -> Select[Any]:
    """Read an `Outlook` of `:batch_id`: the probe, and in the same breath what is made of what went wrong."""
    batches, batch_id = tables.batches, bindparam("batch_id", type_=KEY)
    unfinished = probe(tables, dialect).scalar_subquery()
    sums = tallies.sums(tables, batch_id)
    return select(batches.c.state, batches.c.tolerate, *sums, unfinished).where(batches.c.id == batch_id)


def start(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Let a batch begin that has not, and run if it has no fate yet. The caller holds its row."""
    execute_later(connection, tables, _start, at_batch=batch_id)


def _start(tables: Tables, dialect: str) -> Update:
    batches = tables.batches
    is_pending = batches.c.state == word(BatchState.PENDING)
    state = case((is_pending, word(BatchState.RUNNING)), else_=batches.c.state)
    unbegun = update(batches).where(batches.c.id == bindparam("at_batch"), batches.c.started_at.is_(None))
    return unbegun.values(state=state, started_at=utcnow())


def decide(connection: Connection, tables: Tables, batch_id: str, fate: BatchState) -> None:
    """Write the fate of a batch that has none. The caller holds its row."""
    execute_later(connection, tables, _decide, at_batch=batch_id, to_state=str(fate))


def finish(connection: Connection, tables: Tables, batch_id: str, fate: BatchState | None) -> None:
    """Write that no job of a batch is left to run, and its fate, if it had none. The caller holds its row."""
    if fate is None:
        execute_later(connection, tables, _finish, at_batch=batch_id)
    else:
        execute_later(connection, tables, _decide_and_finish, at_batch=batch_id, to_state=str(fate))


def _decide(tables: Tables, dialect: str) -> Update:
    batches = tables.batches
    undecided = update(batches).where(batches.c.id == bindparam("at_batch"), one_of(batches.c.state, UNDECIDED))
    return undecided.values(state=bindparam("to_state"), completed_at=utcnow())


def _finish(tables: Tables, dialect: str) -> Update:
    batches = tables.batches
    unfinished = update(batches).where(batches.c.id == bindparam("at_batch"), batches.c.settled_at.is_(None))
    return unfinished.values(settled_at=utcnow(), open_key=null())


def _decide_and_finish(tables: Tables, dialect: str) -> Update:
    return _finish(tables, dialect).values(state=bindparam("to_state"), completed_at=utcnow())


def plan_of(connection: Connection, tables: Tables, batch_id: str) -> str | None:
    """What was planned, or is to be, as it is stored."""
    return connection.scalar(select(tables.batches.c.plan).where(tables.batches.c.id == batch_id))


def keep_plan(connection: Connection, tables: Tables, batch_id: str, plan: str) -> None:
    """Write down what was planned."""
    batches = tables.batches
    connection.execute(update(batches).where(batches.c.id == batch_id).values(plan=plan))


def stranded(connection: Connection, tables: Tables, after: str, limit: int) -> list[str]:
    """Batches, from behind an id on, that a crash may have left behind.

    They have begun, and no job is left to run, or something went wrong and nothing is decided.
    """
    batches, jobs = tables.batches, tables.jobs
    child = batches.alias("child")
    is_open = exists().where(jobs.c.batch_id == batches.c.id, jobs.c.outcome.is_(None))
    went_wrong = exists().where(
        jobs.c.batch_id == batches.c.id, one_of(jobs.c.outcome, (JobState.FAILED, JobState.CANCELLED))
    )
    child_failed = exists().where(child.c.parent_id == batches.c.id, child.c.state == BatchState.FAILED)
    is_undecided = batches.c.state == BatchState.RUNNING
    statement = (
        select(batches.c.id)
        .where(batches.c.settled_at.is_(None), batches.c.started_at.is_not(None), batches.c.id > after)
        .where(or_(~is_open, is_undecided & or_(went_wrong, child_failed)))
        .order_by(batches.c.id)
        .limit(limit)
    )
    return list(connection.scalars(statement))


def unreported(connection: Connection, tables: Tables, after: str, limit: int) -> list[str]:
    """Finished child batches, from behind an id on, whose row in their parent is open, with no callback left."""
    batches, jobs = tables.batches, tables.jobs
    callback, parent = jobs.alias("callback"), batches.alias("parent")
    waits = exists().where(callback.c.announces_id == batches.c.id, callback.c.outcome.is_(None))
    statement = (
        select(batches.c.id)
        .join(jobs, jobs.c.id == batches.c.id)
        # An unfinished parent, of which there are few: most batches are history.
        .join(parent, (parent.c.id == batches.c.parent_id) & parent.c.settled_at.is_(None))
        .where(jobs.c.outcome.is_(None), batches.c.settled_at.is_not(None), ~waits, batches.c.id > after)
        .order_by(batches.c.id)
        .limit(limit)
    )
    return list(connection.scalars(statement))
