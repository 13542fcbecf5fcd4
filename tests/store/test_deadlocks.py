"""The deadlocks of rule 5: what naive transactions run into, what ours avoid, and that victims run again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from locks import beside, naive, on_servers, opened, outcome, wait_for_waiter
from scenes import call, count, enroll_jobs, fate_of, make_batch, run_job, running_batch

from celery_flows.states import BatchState, JobState
from celery_flows.store.bulk import add_jobs
from celery_flows.store.database import Connection, Database, is_victim
from celery_flows.transitions.enroll import Share, enroll
from celery_flows.transitions.finalize import finalize

WRITE = sa.text("UPDATE flows_batches SET description = 'x' WHERE id = :id")
TOUCH = sa.text("UPDATE flows_jobs SET error_message = 'x' WHERE id = :id")
HOLD = sa.text("SELECT id FROM flows_batches WHERE id = :id FOR UPDATE")
#: Both databases know this spelling; PostgreSQL's FOR SHARE is younger in MariaDB.
SHARE = {"postgresql": "SELECT id FROM flows_batches WHERE id = :id FOR SHARE"}
SHARE["mysql"] = "SELECT id FROM flows_batches WHERE id = :id LOCK IN SHARE MODE"


@pytest.fixture
def servers(database: Database) -> Database:
    """A database with row locks, which looks for deadlocks soon."""
    if database.dialect == "postgresql":
        name = database.url.database
        database.transact(lambda c: c.exec_driver_sql(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'"))
        database.close()
    return database


def deadlock(database: Database, *steps: Callable[[Connection], object]) -> bool:
    """Let two transactions take two steps each, in turns, the last two at once; whether one was given up."""
    with naive(database) as one, naive(database) as other:
        steps[0](one)
        steps[1](other)
        waiting = beside(_finish, one, steps[2])
        wait_for_waiter(database)
        errors = [_finish(other, steps[3]), outcome(waiting)]
    return any(error is not None and is_victim(error) for error in errors)


def _finish(connection: Connection, step: Callable[[Connection], object]) -> sa.exc.DBAPIError | None:
    try:
        step(connection)
        connection.commit()
    except sa.exc.DBAPIError as error:
        connection.rollback()
        return error
    return None


def saying(statement: sa.TextClause, row_id: str) -> Callable[[Connection], object]:
    """A step that says one thing about one row."""
    return lambda connection: connection.execute(statement, {"id": row_id})


# ---------------------------------------------------------------- naive ones


@on_servers
def test_upgrading_a_shared_lock_deadlocks(servers: Database) -> None:
    """Two adders hold a batch shared, and each wants to write it."""
    batch = make_batch(servers)
    share, write = saying(sa.text(SHARE[servers.dialect]), batch), saying(WRITE, batch)
    assert deadlock(servers, share, share, write, write)


@on_servers
def test_parents_before_children_deadlock_with_children_before_parents(servers: Database) -> None:
    """Two transactions take the same two batches in different orders."""
    parent, child = make_batch(servers), make_batch(servers)
    above, below = saying(HOLD, parent), saying(HOLD, child)
    assert deadlock(servers, above, below, below, above)


@on_servers
def test_a_foreign_key_deadlocks_with_the_finalizer(servers: Database) -> None:
    """Adding under a foreign key locks the batch unasked, while its holder wants a row that the adder wrote."""
    batch, [job] = running_batch(servers)
    key = "CREATE TABLE naive_jobs (id VARCHAR(9), batch_id {} REFERENCES flows_batches (id){})"
    collation = {"postgresql": 'VARCHAR(255) COLLATE "C"', "mysql": "VARCHAR(255) COLLATE utf8mb4_nopad_bin"}
    engine = ", FOREIGN KEY (batch_id) REFERENCES flows_batches (id)" if servers.dialect == "mysql" else ""
    with servers.reading() as connection:
        connection.exec_driver_sql(key.format(collation[servers.dialect], engine))
    try:
        insert = sa.text("INSERT INTO naive_jobs VALUES ('j', :id)")
        assert deadlock(
            servers, saying(HOLD, batch), saying(TOUCH, job), saying(TOUCH, job), saying(insert, batch)
        )
    finally:
        with servers.reading() as connection:
            connection.exec_driver_sql("DROP TABLE naive_jobs")


# ---------------------------------------------------------------- ours


@on_servers
def test_adding_locks_no_batch_before_the_last_statement(servers: Database) -> None:
    """There is no foreign key: while a finalizer holds the batch, jobs are written and their rows are free."""
    batch, [job] = running_batch(servers)
    with servers.engine.begin() as finalizer:
        finalizer.execute(HOLD, {"id": batch})
        with servers.engine.begin() as adder:
            adder.execute(TOUCH, {"id": job})
            outcome(beside(add_jobs, adder, servers.tables, [[call(batch)]]))
    assert count(servers) == 2


@on_servers
def test_two_first_blocks_take_turns(servers: Database) -> None:
    """Who will write the batch locks it exclusively from the start, so there is nothing to upgrade."""
    batch = make_batch(servers)

    def enroll_once() -> None:
        with opened(servers) as connection:
            enroll(connection, servers.tables, [[call(batch)]], [Share(batch, 1, starts=True)])

    with naive(servers) as third:
        saying(sa.text(SHARE[servers.dialect]), batch)(third)
        two = [beside(enroll_once), beside(enroll_once)]
        wait_for_waiter(servers, 2)
        third.commit()
    for one in two:
        outcome(one)
    assert (count(servers), fate_of(servers, batch)) == (2, (BatchState.RUNNING, False))


@on_servers
def test_blocks_lock_children_before_parents(servers: Database) -> None:
    """A block that holds the child waits for nobody who holds the parent and wants the child."""
    parent = make_batch(servers)
    child = make_batch(servers, parent=parent)
    chunks = [[call(child), call(parent)]]
    shares = [Share(child, 1, starts=True), Share(parent, 1, starts=True)]
    with opened(servers) as first:
        first.execute(HOLD, {"id": child})
        second = beside(servers.transact, enroll, servers.tables, chunks, shares)
        wait_for_waiter(servers)
        first.execute(sa.text("SELECT id FROM flows_batches WHERE id = :id FOR UPDATE NOWAIT"), {"id": parent})
    outcome(second)
    assert count(servers) == 3


@on_servers
def test_a_child_is_decided_without_its_parents_lock(servers: Database) -> None:
    """The finalizer of a child writes the row that stands for it, and locks the parent in its own turn only."""
    parent = make_batch(servers)
    child = make_batch(servers, parent=parent)
    enroll_jobs(servers, parent, 0)
    [job] = enroll_jobs(servers, child, 1)
    servers.transact(
        lambda c: c.execute(sa.text("UPDATE flows_jobs SET state='complete' WHERE id=:j"), {"j": job})
    )
    with opened(servers) as holder:
        holder.execute(HOLD, {"id": parent})
        step = outcome(beside(servers.transact, finalize, servers.tables, child))
    assert step.parent_id == parent
    assert fate_of(servers, child) == (BatchState.COMPLETE, True)


def test_children_made_and_ended_at_once_get_by(database: Database) -> None:
    """Growth, adoption, ends and failures of one family, eight at a time: no deadlock comes through."""
    parent = make_batch(database, tolerate="90%")
    enroll_jobs(database, parent, 0)
    gate = make_batch(database, parent=parent)

    def live(number: int) -> None:
        child = make_batch(database, parent=parent, tolerate="1")
        for job in enroll_jobs(database, child, 2):
            run_job(database, job, child, (JobState.COMPLETE, JobState.FAILED)[number % 2])
        [own] = enroll_jobs(database, parent, 1, starts=False)
        run_job(database, own, parent, (JobState.COMPLETE, JobState.FAILED)[number % 2])

    for life in [beside(live, number) for number in range(8)]:
        outcome(life)
    [job] = enroll_jobs(database, gate, 1)
    run_job(database, job, gate)
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)
