"""The races of ending a batch: naive statements lose them, ours don't, under locks that are really held."""

from __future__ import annotations

from itertools import permutations

import pytest
import sqlalchemy as sa
from locks import beside, naive, on_servers, on_sqlite, opened, outcome, wait_for_waiter
from scenes import (
    add_callback,
    call,
    count,
    enroll_jobs,
    fate_of,
    ids,
    listen_to,
    make_batch,
    running_batch,
    state_of,
)

from celery_flows.errors import BatchFinished
from celery_flows.states import BatchState
from celery_flows.store import jobs
from celery_flows.store.bulk import add_jobs
from celery_flows.store.database import Connection, Database
from celery_flows.transitions.admit import admit
from celery_flows.transitions.claim import claim
from celery_flows.transitions.finalize import advance, finalize
from celery_flows.transitions.stream import close_stream, open_stream

MARK = sa.text("UPDATE flows_jobs SET state = 'complete' WHERE id = :job")
CHECK = sa.text("SELECT count(*) FROM flows_jobs WHERE batch_id = :batch AND outcome IS NULL")
HOLD = sa.text("SELECT id FROM flows_batches WHERE id = :batch FOR UPDATE")
FINISH = sa.text(
    "UPDATE flows_batches SET state = 'complete', settled_at = created_at WHERE id = :batch"
    " AND NOT EXISTS (SELECT 1 FROM flows_jobs WHERE batch_id = flows_batches.id AND outcome IS NULL)"
)


def left(connection: Connection, batch: str) -> int:
    """How many unfinished jobs a transaction sees."""
    return int(connection.scalar(CHECK, {"batch": batch}) or 0)


# ---------------------------------------------------------------- marking and checking in one transaction


@on_servers
def test_marking_and_checking_in_one_transaction_strands(database: Database) -> None:
    """Two jobs end at once, each transaction sees the other's job unfinished, and nobody finishes the batch."""
    batch, [first, second] = running_batch(database, 2)
    with naive(database) as one, naive(database) as other:
        one.execute(MARK, {"job": first})
        other.execute(MARK, {"job": second})
        assert (left(one, batch), left(other, batch)) == (1, 1)
        one.commit()
        other.commit()
    assert fate_of(database, batch) == (BatchState.RUNNING, False)
    with database.reading() as connection:
        assert left(connection, batch) == 0


@pytest.mark.parametrize("order", sorted(set(permutations("AABB"))))
def test_two_jobs_that_end_at_once_finish_their_batch(database: Database, order: tuple[str, ...]) -> None:
    """However the two settlements of a batch mingle, one of them arms its callback."""
    batch, two = running_batch(database, 2)
    callback = add_callback(database, batch, "complete")
    job_of = dict(zip("AB", two, strict=True))
    for job in two:
        claim(database, job, 1, "t")
    armed: list[str] = []
    seen: set[str] = set()
    for who in order:
        if who in seen:
            armed += ids(advance(database, batch))
        else:
            database.run(jobs.complete, at_id=job_of[who], at_delivery=1, at_token="t")
        seen.add(who)
    assert armed == [callback]
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


@on_servers
def test_two_that_decide_at_once_decide_once(database: Database) -> None:
    """The second waits for the first one's lock, and then finds the batch finished."""
    batch, [job] = running_batch(database)
    callback = add_callback(database, batch, "complete")
    claim(database, job, 1, "t")
    database.run(jobs.complete, at_id=job, at_delivery=1, at_token="t")
    with opened(database) as first:
        assert ids(finalize(first, database.tables, batch).ready) == [callback]
        second = beside(advance, database, batch)
        wait_for_waiter(database)
    assert outcome(second) == []


# ---------------------------------------------------------------- finishing while a job is being added


@on_servers
def test_a_lone_conditional_update_finishes_falsely(database: Database, database_kind: str) -> None:
    """It waits for the adder's lock, and then believes what it saw before, on a database that looks first.

    MariaDB waits first and looks then.
    """
    batch, [job] = running_batch(database)
    with naive(database) as adder, naive(database) as finisher:
        database.transact(lambda connection: connection.execute(MARK, {"job": job}))
        add_jobs(adder, database.tables, [[call(batch)]])
        admit(adder, database.tables, batch, count=1, starts=False)
        finishing = beside(finisher.execute, FINISH, {"batch": batch})
        wait_for_waiter(database)
        adder.commit()
        outcome(finishing)
        finisher.commit()
    with database.reading() as connection:
        assert left(connection, batch) == 1
    assert fate_of(database, batch)[1] is (database_kind == "postgresql")


@on_servers
def test_a_batch_is_not_finished_while_a_job_is_being_added(database: Database) -> None:
    """Ours waits for the adder too, but looks again in a new statement."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    database.run(jobs.complete, at_id=job, at_delivery=1, at_token="t")
    with opened(database) as adder:
        add_jobs(adder, database.tables, [[call(batch)]])
        admit(adder, database.tables, batch, count=1, starts=False)
        finishing = beside(advance, database, batch)
        wait_for_waiter(database)
    assert outcome(finishing) == []
    assert fate_of(database, batch) == (BatchState.RUNNING, False)


@on_servers
def test_who_adds_while_the_batch_is_being_finished_is_refused(database: Database) -> None:
    """The other way round: the adder waits for the finisher, sees the batch finished, and leaves nothing."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    database.run(jobs.complete, at_id=job, at_delivery=1, at_token="t")
    with opened(database) as finisher:
        finalize(finisher, database.tables, batch)
        adding = beside(enroll_jobs, database, batch, 3, starts=False)
        wait_for_waiter(database)
    with pytest.raises(BatchFinished):
        outcome(adding)
    assert count(database) == 1


@on_servers
def test_who_listens_while_the_batch_fails_hears_of_it(database: Database) -> None:
    """A callback written beside the decision is armed by one of the two, and waits for nothing."""
    batch, [job, _] = running_batch(database, 2)
    claim(database, job, 1, "t")
    database.transact(jobs.end, database.tables, jobs.Ending(job, jobs.JobState.FAILED, delivery=1, token="t"))
    with opened(database) as decider:
        assert finalize(decider, database.tables, batch).ready == []
        listening = beside(listen_to, database, batch, "failure")
        wait_for_waiter(database)
    callback, ready = outcome(listening)
    assert ids(ready) == [callback]


@on_servers
def test_many_adders_do_not_wait_for_one_another(database: Database) -> None:
    """Adding to a running batch locks it shared: two jobs of a batch may each add jobs at once."""
    batch, _ = running_batch(database)
    with opened(database) as adder:
        add_jobs(adder, database.tables, [[call(batch)]])
        admit(adder, database.tables, batch, count=1, starts=False)
        assert len(outcome(beside(enroll_jobs, database, batch, 2, starts=False))) == 2


def test_a_block_that_closes_beside_the_last_job_finishes_the_batch(database: Database) -> None:
    """The job's worker sees the block open, the block's end sees the job ended: it finishes."""
    batch = make_batch(database)
    database.transact(open_stream, database.tables, "block", batch, starts=True)
    [job] = enroll_jobs(database, batch, 1, starts=False)
    callback = add_callback(database, batch, "complete")
    claim(database, job, 1, "t")
    database.run(jobs.complete, at_id=job, at_delivery=1, at_token="t")
    assert advance(database, batch) == []
    assert ids(close_stream(database, "block", batch)) == [callback]


# ---------------------------------------------------------------- isolation


@pytest.mark.parametrize(
    ("isolation", "is_finished"),
    [("READ COMMITTED", True), ("REPEATABLE READ", False)],
    ids=["committed", "repeatable"],
)
@on_servers
def test_repeatable_read_strands(database: Database, isolation: str, is_finished: bool) -> None:
    """The same statements, under the same lock, finish under READ COMMITTED and strand above it.

    Each transaction has read something before the other's commit, and goes on seeing what it saw.
    """
    batch, [first, second] = running_batch(database, 2)
    with naive(database, isolation) as one, naive(database, isolation) as other:
        assert (left(one, batch), left(other, batch)) == (2, 2)
        seen = []
        for connection, job in ((one, first), (other, second)):
            connection.execute(MARK, {"job": job})
            connection.execute(HOLD, {"batch": batch})
            seen.append(left(connection, batch))
            connection.commit()
    assert (0 in seen) is is_finished


@on_servers
def test_ours_are_read_committed_whatever_the_default(database: Database) -> None:
    """Neither the server's default, nor the session's, nor another engine's options change our isolation."""
    defaults = {
        "postgresql": {"options": "-c default_transaction_isolation=serializable"},
        "mysql": {"init_command": "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"},
    }[database.dialect]
    options = {
        "isolation_level": "SERIALIZABLE",
        "execution_options": {"isolation_level": "REPEATABLE READ"},
        "connect_args": defaults,
    }
    strict = Database(database.url, engine_options=options)
    batch, [job] = running_batch(database)
    with strict.engine.begin() as connection:
        assert left(connection, batch) == 1
        database.transact(lambda other: other.execute(MARK, {"job": job}))
        assert left(connection, batch) == 0
    # A single statement is still a transaction of its own.
    [other_job] = enroll_jobs(strict, batch, 1, starts=False)
    claim(strict, other_job, 1, "t")
    assert state_of(database, other_job) is jobs.JobState.RUNNING
    strict.close()


@on_sqlite
def test_sqlite_takes_its_turn_before_it_reads(database: Database) -> None:
    """A transaction is the writer from its first statement on, so that nothing it saw can change."""
    batch, [job] = running_batch(database)
    with opened(database) as connection:
        assert left(connection, batch) == 1
        with naive(database) as other:
            other.exec_driver_sql("PRAGMA busy_timeout = 0")
            with pytest.raises(sa.exc.OperationalError, match="database is locked"):
                other.execute(MARK, {"job": job})
