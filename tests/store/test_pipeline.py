"""Statements in libpq's pipeline mode: what one round trip may not change."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from locks import beside, on_postgresql, outcome, wait_until
from scenes import batch_row, count, make_batch, running_batch, state_of
from sqlalchemy.sql import ClauseElement

from celery_flows.states import JobState
from celery_flows.store.database import Connection, Database, is_unavailable
from celery_flows.store.executing import execute, execute_in_turn, execute_later
from celery_flows.store.jobs import Ending
from celery_flows.store.jobs import probe as look
from celery_flows.store.tables import Tables
from celery_flows.transitions.claim import claim
from celery_flows.transitions.settle import settle

pytestmark = on_postgresql

ME = "SELECT pg_backend_pid()"


def me(tables: Tables, dialect: str) -> ClauseElement:
    """Which connection says this."""
    return sa.select(sa.func.pg_backend_pid())


def rename(tables: Tables, dialect: str) -> ClauseElement:
    """Describe a batch anew."""
    renamed = sa.update(tables.batches).where(tables.batches.c.id == sa.bindparam("at_id"))
    return renamed.values(description=sa.bindparam("to_text", type_=sa.Text()))


def told(tables: Tables, dialect: str) -> ClauseElement:
    """Read how a batch is described."""
    return sa.select(tables.batches.c.description).where(tables.batches.c.id == sa.bindparam("at_id"))


def tally_twice(tables: Tables, dialect: str) -> ClauseElement:
    """Add a tally that may be there."""
    values = {"batch_id": sa.bindparam("at_id"), "slot": sa.literal_column("1"), "total": sa.literal_column("1")}
    return sa.insert(tables.tallies).values(**values, wrong=sa.literal_column("0"))


def nonsense(tables: Tables, dialect: str) -> ClauseElement:
    """Ask for what is not there."""
    return sa.select(sa.literal_column("nowhere"))


def slowly(tables: Tables, dialect: str) -> ClauseElement:
    """Take a minute."""
    return sa.select(sa.func.pg_sleep(sa.literal_column("60")))


def backend(database: Database) -> int:
    """The server's process behind the pool's connection."""
    return int(database.run(me)[1][0][0])


def prepared(database: Database) -> int:
    """How much the session has been asked to remember."""
    with database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one())


def describe(batch_id: str, text: str | None) -> tuple[Any, dict[str, Any]]:
    """The renaming of a batch, as it is asked for."""
    return rename, {"at_id": batch_id, "to_text": text}


def forget(database: Database) -> None:
    """Let the session forget what was prepared, as psycopg does after a ROLLBACK."""
    with database.reading() as connection:
        connection.exec_driver_sql("DEALLOCATE ALL")


# ---------------------------------------------------------------- order


def test_each_sees_what_those_before_it_wrote(database: Database) -> None:
    """As the look behind an outcome must."""
    batch_id = make_batch(database)
    answers = database.run_in_turn(describe(batch_id, "one"), (told, {"at_id": batch_id}), describe("no", "two"))
    assert answers == [(1, []), (1, [("one",)]), (0, [])]


def test_the_look_comes_after_the_commit(database: Database) -> None:
    """Somebody else sees the outcome while the look behind it still waits for a lock."""
    batch_id = make_batch(database)
    is_held, may_go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(77)")
        is_held.set()
        assert may_go.wait(30)

    def locked(tables: Tables, dialect: str) -> ClauseElement:
        return sa.select(sa.cast(sa.func.pg_advisory_xact_lock(sa.literal_column("77")), sa.Text()))

    holder = beside(database.transact, hold)
    assert is_held.wait(30)
    both = beside(database.run_in_turn, describe(batch_id, "seen"), (locked, {}))
    wait_until(lambda: batch_row(database, batch_id).description == "seen", "the outcome is committed")
    assert not both.done()
    may_go.set()
    outcome(holder)
    assert [number for number, _ in outcome(both)] == [1, 1]


def test_what_is_said_later_is_said_before_what_follows(database: Database) -> None:
    """Whichever way that is said."""
    batch_id = make_batch(database)
    description = sa.select(database.tables.batches.c.description)

    def write(connection: Connection) -> list[Any]:
        seen = []
        for text, way in (
            ("driver", lambda: execute(connection, database.tables, told, at_id=batch_id)[0][0]),
            ("core", lambda: connection.scalar(description)),
            ("words", lambda: connection.exec_driver_sql("SELECT description FROM flows_batches").scalar()),
        ):
            execute_later(connection, database.tables, rename, at_id=batch_id, to_text=text)
            seen.append(way())
        return seen

    assert database.transact(write) == ["driver", "core", "words"]


def test_a_rollback_takes_back_what_was_to_be_said_later(database: Database) -> None:
    """It is neither said then nor in the next transaction."""
    batch_id = make_batch(database)

    def write(connection: Connection) -> None:
        execute_later(connection, database.tables, rename, at_id=batch_id, to_text="lost")
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        database.transact(write)
    database.transact(lambda connection: execute(connection, database.tables, told, at_id=batch_id))
    assert batch_row(database, batch_id).description is None


def test_a_transaction_of_a_job_has_begun_when_it_is_given(database: Database) -> None:
    """A user may take the driver's own connection for what is to be part of it."""
    batch_id = make_batch(database)
    transaction = database.begin()
    driver: Any = transaction.connection.connection.dbapi_connection
    driver.cursor().execute("UPDATE flows_batches SET description = 'half'")
    transaction.roll_back()
    assert batch_row(database, batch_id).description is None


# ---------------------------------------------------------------- errors


def test_the_first_error_is_raised_and_those_behind_it_are_run(database: Database) -> None:
    """Each is a transaction of its own; the connection is as good as before."""
    batch_id, number = make_batch(database), backend(database)
    with pytest.raises(sa.exc.ProgrammingError, match="nowhere") as caught:
        database.run_in_turn(describe(batch_id, "before"), (nonsense, {}), describe(batch_id, "behind"))
    assert not is_unavailable(caught.value)
    assert batch_row(database, batch_id).description == "behind"
    assert backend(database) == number


def test_in_a_transaction_the_first_error_is_the_last(database: Database) -> None:
    """And it undoes all."""
    batch_id, number = make_batch(database), backend(database)

    def write(connection: Connection) -> None:
        later = [describe(batch_id, "before"), (nonsense, {}), describe(batch_id, "behind")]
        execute_in_turn(connection, database.tables, *later)

    with pytest.raises(sa.exc.ProgrammingError, match="nowhere"):
        database.transact(write)
    assert batch_row(database, batch_id).description is None
    assert backend(database) == number


def test_an_error_of_what_is_said_with_the_commit_is_raised(database: Database) -> None:
    """A commit that did not come is none."""
    batch_id = make_batch(database)

    def write(connection: Connection) -> None:
        execute_later(connection, database.tables, rename, at_id=batch_id, to_text="lost")
        execute_later(connection, database.tables, nonsense)

    with pytest.raises(sa.exc.ProgrammingError, match="nowhere"):
        database.transact(write)
    assert batch_row(database, batch_id).description is None


def test_the_kind_of_an_error_is_what_the_driver_makes_of_it(database: Database) -> None:
    """SQLAlchemy's by class, the driver's by SQLSTATE, and with all that the server said."""
    database.run(tally_twice, at_id="one")
    with pytest.raises(sa.exc.IntegrityError, match="tally_twice") as caught:
        database.run(tally_twice, at_id="one")
    error: Any = caught.value.orig
    assert (type(error).__name__, error.sqlstate) == ("UniqueViolation", "23505")
    assert error.diag.table_name == "flows_tallies"
    assert "one" not in str(caught.value).split("[SQL")[1]


def test_the_victim_of_a_deadlock_is_run_again(database: Database) -> None:
    """Two that take two rows in different orders, in pipelines: one is given up, and both get done."""
    rows = [make_batch(database), make_batch(database)]
    both_hold_one = threading.Barrier(2)
    tries: list[str] = []

    def take(connection: Connection, first: str, second: str) -> None:
        tries.append(first)
        execute(connection, database.tables, rename, at_id=first, to_text=first)
        if len(tries) <= 2:
            both_hold_one.wait(30)
        execute_later(connection, database.tables, rename, at_id=second, to_text=first)

    other = beside(database.transact, take, *rows[::-1])
    database.transact(take, *rows)
    outcome(other)
    assert len(tries) == 3


# ---------------------------------------------------------------- connections


def test_a_connection_that_is_ended_meanwhile_is_another_one(database: Database) -> None:
    """A single statement is tried again; so a settle survives a restart of the server."""
    batch_id, [job, _] = running_batch(database, 2)
    claim(database, job, 1, "t")
    number = backend(database)
    killer = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with killer.connect() as other:
        other.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
    settle(database, Ending(job, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch_id)
    assert state_of(database, job) is JobState.COMPLETE
    assert backend(database) != number


def test_a_connection_that_is_lost_while_it_is_waited_for_is_known_as_lost(database: Database) -> None:
    """Each time: the third error is given to the caller, who waits for the database to come back."""
    killer = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    asleep = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    waiting = beside(database.run, slowly)

    def end_it() -> bool:
        with killer.connect() as other:
            other.exec_driver_sql(f"{asleep} AND datname = current_database()")
        return waiting.done()

    wait_until(end_it, "the third connection is lost")
    with pytest.raises(sa.exc.OperationalError) as caught:
        outcome(waiting)
    assert caught.value.connection_invalidated
    assert database.run(me)[0] == 1


class Interrupted(BaseException):
    """What a signal's handler raises."""


ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


@contextmanager
def interrupted(database: Database) -> Iterator[None]:
    """A signal whose handler raises strikes while the server is waited for, as a time limit does."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def strike() -> None:
        watcher = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with watcher.connect() as other:
            wait_until(lambda: bool(other.exec_driver_sql(ASLEEP).scalar()), "the server is waited for")
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    striking = beside(strike)
    try:
        with pytest.raises(Interrupted):
            yield
        outcome(striking)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_who_is_interrupted_leaves_no_answer_to_the_next(database: Database) -> None:
    """What strikes while the server is waited for: the connection is not used again."""
    number = backend(database)
    with interrupted(database):
        database.run(slowly)
    assert database.run(me)[1] != [(number,)]


def test_who_is_interrupted_in_a_transaction_hears_of_that_and_of_nothing_else(database: Database) -> None:
    """It is not run again, its locks are gone at once, and the next one finds a connection that is good."""
    batch_id, tries = make_batch(database), []

    def wait(connection: Connection) -> None:
        tries.append(1)
        execute(connection, database.tables, rename, at_id=batch_id, to_text="lost")
        execute(connection, database.tables, slowly)

    with interrupted(database):
        database.transact(wait)
    with database.reading() as connection:
        wait_until(lambda: not connection.exec_driver_sql(ASLEEP).scalar(), "the server has given it up")
    database.run_in_turn(describe(batch_id, "free"))
    transaction = database.begin()
    execute(transaction.connection, database.tables, told, at_id=batch_id)
    transaction.commit()
    assert (tries, batch_row(database, batch_id).description) == ([1], "free")


def test_why_a_connection_was_ended_is_told(database: Database) -> None:
    """The server says it before it goes."""
    killer = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    transaction = database.begin()
    number = transaction.connection.exec_driver_sql(ME).scalar_one()
    waiting = beside(execute, transaction.connection, database.tables, slowly)
    asleep = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {number} AND wait_event = 'PgSleep'"
    with killer.connect() as other:
        wait_until(lambda: bool(other.exec_driver_sql(asleep).scalar()), "it waits")
        other.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
    with pytest.raises(sa.exc.OperationalError, match="administrator command") as caught:
        outcome(waiting)
    assert caught.value.connection_invalidated
    transaction.roll_back()


def test_a_transaction_that_a_task_has_ended_begins_anew(database: Database) -> None:
    """What follows is part of one, and not committed by itself."""
    batch_id = make_batch(database)
    for way in (execute, execute_later):
        transaction = database.begin()
        transaction.connection.commit()
        way(transaction.connection, database.tables, rename, at_id=batch_id, to_text="lost")
        transaction.roll_back()
    assert batch_row(database, batch_id).description is None


def test_a_text_is_in_the_encoding_of_the_connection(new_database_url: Callable[[], str]) -> None:
    """Not all are UTF-8."""
    url = sa.make_url(new_database_url()).update_query_dict({"client_encoding": "latin1"})
    own = Database(url)

    def length(tables: Tables, dialect: str) -> ClauseElement:
        text = sa.bindparam("text", type_=sa.Text())
        return sa.select(text, sa.func.length(text))

    assert own.run(length, text="Müller")[1] == [("Müller", 6)]
    own.close()


def test_a_nul_is_refused(database: Database) -> None:
    """Rather than what is behind it lost; as by psycopg itself."""
    batch_id, number = make_batch(database), backend(database)
    with pytest.raises(sa.exc.DataError, match="NUL"):
        database.run_in_turn(describe(batch_id, "abc\0def"))
    assert batch_row(database, batch_id).description is None
    assert backend(database) != number


def test_long_texts_go_both_ways(database: Database) -> None:
    """More than the sockets hold, several times."""
    batch_id, text = make_batch(database), "é" * 5_000_000
    asked = [one for _ in range(3) for one in (describe(batch_id, text), (told, {"at_id": batch_id}))]
    answers = database.run_in_turn(*asked)
    assert [rows for _, rows in answers[1::2]] == [[(text,)]] * 3


# ---------------------------------------------------------------- what is prepared


def test_what_the_session_has_forgotten_is_prepared_again(database: Database) -> None:
    """By single statements, in transactions, and by single reads."""
    batch_id = make_batch(database)
    asked = describe(batch_id, "again"), (told, {"at_id": batch_id})

    def write(connection: Connection) -> list[Any]:
        return execute_in_turn(connection, database.tables, *asked)[1]

    for _ in range(2):
        assert database.run_in_turn(*asked)[1] == (1, [("again",)])
        forget(database)
    for _ in range(2):
        assert database.transact(write) == [("again",)]
        forget(database)
    for _ in range(2):
        with database.reading() as connection:
            assert execute(connection, database.tables, told, at_id=batch_id) == [("again",)]
        forget(database)


def test_what_is_forgotten_again_and_again_is_not_relied_on(database: Database) -> None:
    """A second try prepares nothing."""
    batch_id, tries = make_batch(database), []

    def write(connection: Connection) -> None:
        tries.append(1)
        execute(connection, database.tables, rename, at_id=batch_id, to_text="first")
        connection.exec_driver_sql("DEALLOCATE ALL")
        execute(connection, database.tables, rename, at_id=batch_id, to_text="second")

    database.transact(write)
    assert (tries, batch_row(database, batch_id).description) == ([1, 1], "second")


def test_a_statement_has_one_name_everywhere(database: Database, database_url: str) -> None:
    """A pooler that knows nothing of names may give a session to another process."""
    other, batch_id = Database(database_url), make_batch(database)
    seen = []
    for one in (database, other):
        one.close()
        one.run_in_turn(*([describe(batch_id, "a")] if one is other else []), (told, {"at_id": batch_id}))
        with one.reading() as connection:
            names = connection.exec_driver_sql(
                "SELECT name FROM pg_prepared_statements WHERE starts_with(statement, 'SELECT flows_batches.d')"
            )
            seen.append(names.scalars().all())
    assert len(seen[0]) == 1
    assert seen[0] == seen[1]
    other.close()


def test_what_another_has_prepared_here_is_no_hindrance(database: Database) -> None:
    """As through a pooler that gives a session to one and then to another."""
    batch_id = make_batch(database)
    database.run_in_turn(describe(batch_id, "one"))
    with database.reading() as connection:
        # For us it is a new session, and it has what the last one had prepared.
        del connection.info["celery_flows_names"]
    database.run_in_turn(describe(batch_id, "two"))
    assert batch_row(database, batch_id).description == "two"


def test_a_jobs_transaction_needs_nothing_that_was_prepared(database: Database) -> None:
    """What its task says may let the session forget all, and nobody could run that transaction again."""
    batch_id = make_batch(database)
    database.run_in_turn(describe(batch_id, "before"))
    transaction = database.begin()
    transaction.connection.exec_driver_sql("DEALLOCATE ALL")
    execute(transaction.connection, database.tables, rename, at_id=batch_id, to_text="within")
    transaction.commit()
    assert batch_row(database, batch_id).description == "within"


def test_errors_do_not_let_the_session_remember_more(database: Database) -> None:
    """A statement that fails again and again is prepared once, and what can't be prepared is not remembered."""
    database.run(tally_twice, at_id="one")
    with pytest.raises(sa.exc.ProgrammingError):
        database.run(nonsense)
    before = prepared(database)
    for _ in range(5):
        with pytest.raises(sa.exc.IntegrityError):
            database.run(tally_twice, at_id="one")
        with pytest.raises(sa.exc.ProgrammingError, match="nowhere"):
            database.run(nonsense)
    assert prepared(database) == before


def test_a_plan_that_a_migration_has_outdated_is_made_anew(database: Database, new_database_url: Any) -> None:
    """That a "cached plan must not change result type" is no error of the caller's."""
    own = Database(new_database_url())
    with own.reading() as connection:
        connection.exec_driver_sql("CREATE TABLE things (id integer)")
        connection.exec_driver_sql("INSERT INTO things VALUES (7)")

    def read(tables: Tables, dialect: str) -> ClauseElement:
        return sa.select(sa.literal_column("id")).select_from(sa.text("things"))

    assert own.run(read)[1] == [(7,)]
    with own.reading() as connection:
        connection.exec_driver_sql("ALTER TABLE things ALTER id TYPE text")
    assert own.run(read)[1] == [("7",)]
    own.close()


def test_a_pooler_that_remembers_nothing_is_asked_to_remember_nothing(database_url: str) -> None:
    """As `prepare_threshold=None` says to psycopg."""
    own = Database(database_url, engine_options={"connect_args": {"prepare_threshold": None}})
    batch_id, jobs = running_batch(own, 3)
    for job in jobs:
        claim(own, job, 1, "t")
        settle(own, Ending(job, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch_id)
    assert batch_row(own, batch_id).state == "complete"
    assert prepared(own) == 0
    own.close()


def test_types_are_told_apart(database: Database) -> None:
    """What a value is decides what the statement does with it, call for call."""

    def given(tables: Tables, dialect: str) -> ClauseElement:
        return sa.select(sa.func.pg_typeof(sa.bindparam("value", type_=sa.types.NULLTYPE)).cast(sa.Text()))

    values = (1, 2**31, -(2**31), 1.5)
    types = ["integer", "bigint", "integer", "double precision"]
    assert [database.run(given, value=value)[1][0][0] for value in values] == types


def test_the_pool_has_one_connection_for_it_all(database: Database) -> None:
    """Nothing is left behind that would keep a connection out."""
    batch_id, jobs = running_batch(database, 5)
    number = backend(database)
    for job in jobs:
        claim(database, job, 1, "t")
        settle(database, Ending(job, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch_id)
    assert (backend(database), count(database)) == (number, 5)
    assert database.run(look, batch_id=batch_id)[1] == []
