"""The door to the database: transactions that run again, connections that are lost, processes that fork."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from locks import beside, on_others, on_servers, outcome
from scenes import batch_row, count, enroll_jobs, make_batch, row, running_batch, state_of, tally
from sqlalchemy.sql import ClauseElement

from celery_flows.ids import new_id
from celery_flows.queries.progress import progress
from celery_flows.states import JobState
from celery_flows.store import jobs
from celery_flows.store.database import Connection, Database, is_unavailable
from celery_flows.store.jobs import Ending
from celery_flows.store.tables import Tables
from celery_flows.transitions.claim import claim
from celery_flows.transitions.settle import settle

HOLD = sa.text("SELECT id FROM flows_batches WHERE id = :id FOR UPDATE")
ME = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def kill(database: Database, connection: Connection) -> None:
    """End a connection from another one, as a server's restart or a firewall does."""
    number = connection.exec_driver_sql(ME[database.dialect]).scalar_one()
    killer = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with killer.connect() as other:
        other.exec_driver_sql(KILL[database.dialect].format(number))


def kill_idle(database: Database) -> None:
    """End the connection that the pool holds."""
    with database.reading() as connection:
        kill(database, connection)


# ---------------------------------------------------------------- transactions


def test_a_transaction_stands_or_falls_as_a_whole(database: Database) -> None:
    """What raises leaves nothing behind, and the next transaction is none the worse."""

    def half(connection: Connection) -> None:
        connection.execute(database.tables.workers.insert().values(HEARTBEAT))
        raise KeyError("half")

    with pytest.raises(KeyError, match="half"):
        database.transact(half)
    assert count(database, "workers") == 0
    make_batch(database)
    assert count(database, "batches") == 1


@on_others
def test_two_statements_stand_or_fall_together(database: Database) -> None:
    """What the second one breaks on, the first has not written; and without a hit there is no second."""
    make_batch(database, id="hit")

    def both(tables: Tables, dialect: str) -> tuple[ClauseElement, ClauseElement]:
        batches, wrong = tables.batches, tables.tallies.insert().values(batch_id=None, slot=1, total=1, wrong=1)
        return batches.update().where(batches.c.id == sa.bindparam("at_id")).values(tolerate="9"), wrong

    assert database.run(both, at_id="miss")[0] == 0
    with pytest.raises(sa.exc.IntegrityError):
        database.run(both, at_id="hit")
    assert batch_row(database, "hit").tolerate == "0"
    assert count(database, "tallies") == 0
    # On the same connection.
    make_batch(database)
    assert count(database, "batches") == 2


def test_a_failure_and_its_tally_stand_or_fall_together(database: Database) -> None:
    """Where the tally can't be written, the job has not ended."""
    batch_id, [job] = running_batch(database, tolerate="5")
    ending = Ending(job, JobState.FAILED, "ValueError", "broken", 1)
    with pytest.raises(sa.exc.DBAPIError):
        database.run(jobs.fail, at_batch=batch_id, at_slot=None, **ending.values())
    assert state_of(database, job) is JobState.READY
    settle(database, ending, batch_id=batch_id)
    assert (state_of(database, job), tally(database, batch_id)) == (JobState.FAILED, (0, 1))


HEARTBEAT = {"id": "w", "hostname": "h", "pid": 1, "started_at": sa.func.now(), "heartbeat_at": sa.func.now()}


@on_servers
def test_the_victim_of_a_deadlock_is_run_again(database: Database) -> None:
    """Two transactions that take two rows in different orders: one is given up, and both get done."""
    rows = [make_batch(database), make_batch(database)]
    both_hold_one = threading.Barrier(2)
    tries: list[str] = []

    def take(connection: Connection, first: str, second: str) -> None:
        tries.append(first)
        connection.execute(HOLD, {"id": first})
        if len(tries) <= 2:
            both_hold_one.wait(30)
        connection.execute(HOLD, {"id": second})

    other = beside(database.transact, take, *rows[::-1])
    database.transact(take, *rows)
    outcome(other)
    assert len(tries) == 3


def test_what_is_refused_is_not_tried_again(database: Database) -> None:
    """Only a victim is: an error of the statement's own comes through the first time."""
    tries: list[int] = []

    def fail(connection: Connection) -> None:
        tries.append(1)
        connection.exec_driver_sql("SELECT nonsense FROM nowhere")

    with pytest.raises(sa.exc.DBAPIError):
        database.transact(fail)
    assert tries == [1]


# ---------------------------------------------------------------- lost connections


@on_servers
def test_an_idle_connection_that_was_lost_is_replaced(database: Database) -> None:
    """A server's restart is met by a statement or a transaction that begins, and costs it nothing."""
    batch, [job, _] = running_batch(database, 2)
    kill_idle(database)
    assert claim(database, job, 1, "t") == 1
    kill_idle(database)
    settle(database, Ending(job, JobState.FAILED, delivery=1, token="t"), batch_id=batch)
    assert state_of(database, job) is JobState.FAILED
    kill_idle(database)
    enroll_jobs(database, batch, 3, starts=False)
    assert count(database) == 5


@on_servers
def test_a_read_after_a_pause_finds_the_database_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who looks at a batch from a shell does not hear that the server was restarted meanwhile."""
    batch = make_batch(database)
    kill_idle(database)
    monkeypatch.setattr("celery_flows.store.database._IDLE_SECONDS", 0)
    assert progress(database, batch).total == 0


@on_servers
def test_a_transaction_whose_connection_is_lost_is_run_again(database: Database) -> None:
    """What was done before the commit is gone with the connection, so it is done again."""
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(database.tables.workers.insert().values(HEARTBEAT))
        if len(tries) == 1:
            kill(database, connection)
        connection.execute(sa.select(1))

    database.transact(work)
    assert (len(tries), count(database, "workers")) == (2, 1)


@on_servers
def test_a_commit_without_an_answer_is_not_repeated(database: Database) -> None:
    """Nobody knows whether it took place, so the caller hears of it: done twice, an enrolment would be refused."""
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(database.tables.workers.insert().values(HEARTBEAT))
        kill(database, connection)

    with pytest.raises(sa.exc.DBAPIError) as caught:
        database.transact(work)
    assert is_unavailable(caught.value)
    assert tries == [1]


def test_a_claim_whose_answer_was_lost_is_the_same_claim(database: Database) -> None:
    """The statement ran, the answer did not come: asked again, it gives the same attempt."""
    _, [job] = running_batch(database)
    values = {"at_id": job, "at_delivery": 1, "at_token": "t", "at_worker": None, "at_lease": 0.0}
    values |= {"to_late": 0, "to_on_loss": None}
    answers = [database.run(jobs.claim, **values)[1][0][0] for _ in range(2)]
    assert answers == [1, 1]
    assert row(database, job).attempt == 1


def test_a_database_that_is_away_is_said_to_be_away() -> None:
    """Not to have refused something."""
    for url in ("postgresql+psycopg://x@127.0.0.1:1/x", "mysql+pymysql://x@127.0.0.1:1/x"):
        away = Database(url)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            claim(away, "j", 1, "t")
        assert is_unavailable(caught.value)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            make_batch(away)
        assert is_unavailable(caught.value)


# ---------------------------------------------------------------- processes and connections


def test_a_reader_gives_its_connection_back_clean(database: Database) -> None:
    """A transaction that follows on the same connection is rolled back as any other."""
    with database.reading() as connection:
        connection.execute(sa.select(1))
    with pytest.raises(KeyError), database.engine.begin() as connection:
        connection.execute(database.tables.workers.insert().values(HEARTBEAT))
        raise KeyError
    assert count(database, "workers") == 0


def test_nothing_is_opened_before_the_first_statement() -> None:
    """Not by making it, nor by asking which database it is."""
    unreachable = Database("postgresql+psycopg://x@127.0.0.1:1/x")
    assert unreachable.dialect == "postgresql"
    unreachable.close()


def test_a_child_process_opens_connections_of_its_own(database: Database) -> None:
    """After a fork the parent's connections are left to the parent, also where another thread held our locks."""
    make_batch(database)
    with database._lock:
        other = beside(_in_child, lambda: make_batch(database) and new_id())
        assert outcome(other) == 0
    assert count(database, "batches") == 2


def _in_child(act: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        # A lock of a thread that does not exist here would be waited for until this rings.
        signal.alarm(20)
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
