"""Blocks and batches that join the caller's own transaction: a transactional outbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from apps import called, counting, flows_app, messages, rows, runtime_of, work
from celery import Celery
from sqlalchemy.orm import Session

from celery_flows import Batch, BatchFinished, BatchNotFound
from celery_flows.errors import BlockMisuse, JoinRefused, ResultNotReady

STRICT = ["REPEATABLE READ", "SERIALIZABLE"]


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    """An app with Flows and a few tasks, on each database."""
    with flows_app(database_url) as app:
        yield app


@pytest.fixture
def engine(app: Celery) -> Iterator[sa.Engine]:
    """The user's own engine on the same database, as SQLAlchemy makes it but for the isolation."""
    url = runtime_of(app).database.url
    options = {} if url.get_backend_name() == "sqlite" else {"isolation_level": "READ COMMITTED"}
    engine = sa.create_engine(url, **options)
    yield engine
    engine.dispose()


@pytest.fixture
def add(app: Celery) -> Any:
    """A task."""
    return app.tasks["shop.add"]


def test_commit_publishes_after_the_commit(app: Celery, engine: sa.Engine, add: Any) -> None:
    """Rows are there for others, and messages go out, once the caller has really committed, in that order."""
    seen: list[Any] = []

    def look(sender: str, headers: Any, **rest: Any) -> None:
        # Asked on a connection of its own, at the moment of publishing.
        seen.append([row.state for row in rows(app, id=headers["id"])])

    from celery.signals import before_task_publish

    before_task_publish.connect(look)
    try:
        with engine.begin() as connection:
            batch = Batch.create(app=app, connection=connection).on(
                "complete", app.tasks["shop.note"], connection=connection
            )
            with batch.jobs(connection=connection):
                add.delay(1)
            assert Batch.get(batch.id, app=app, connection=connection) == batch
            assert messages(app) == []
            with pytest.raises(BatchNotFound):
                Batch.get(batch.id, app=app)
    finally:
        before_task_publish.disconnect(look)
    assert seen == [["ready"]]
    assert [row.state for row in rows(app, batch_id=batch.id)] == ["queued"]
    work(app)
    assert (batch.status, app.flows_test_notes) == ("complete", [(batch.id,)])


def test_rollback_leaves_nothing(app: Celery, engine: sa.Engine, add: Any) -> None:
    """A rollback takes the batch, its jobs and its callbacks with it; nothing is published, then or later."""
    with engine.connect() as connection:
        batch = Batch.create(app=app, connection=connection)
        batch.on("complete", app.tasks["shop.note"], connection=connection)
        with batch.jobs(connection=connection):
            result = add.delay(1)
        connection.rollback()
        with pytest.raises(ResultNotReady):
            result.get(timeout=1)
        connection.execute(sa.text("SELECT 1"))
        connection.commit()
    assert (rows(app), messages(app)) == ([], [])
    with pytest.raises(BatchNotFound):
        _ = batch.status


def test_an_error_of_the_callers_leaves_nothing(app: Celery, engine: sa.Engine, add: Any) -> None:
    """An error after the block, that the caller's transaction is left by, leaves nothing of the block."""
    batch = Batch.create(app=app)
    with pytest.raises(ValueError, match=r"later"), engine.begin() as connection:
        with batch.jobs(connection=connection):
            add.delay(1)
        raise ValueError("later")
    assert (rows(app), messages(app), batch.status) == ([], [], "pending")


def test_savepoints(app: Celery, engine: sa.Engine, add: Any) -> None:
    """A block in a savepoint that is rolled back is not published; one that is released waits for the commit."""
    batch = Batch.create(app=app)
    with engine.begin() as connection:
        kept = connection.begin_nested()
        with batch.jobs(connection=connection):
            add.delay("released")
        kept.commit()
        dropped = connection.begin_nested()
        with batch.jobs(connection=connection):
            add.delay("rolled back")
        dropped.rollback()
        assert messages(app) == []
    assert called(app) == [("shop.add", "released")]
    assert batch.progress.total == 1


def test_a_batch_in_a_savepoint_that_is_rolled_back(app: Celery, engine: sa.Engine, add: Any) -> None:
    """A whole batch in a savepoint that is rolled back is gone, and the commit publishes nothing of it."""
    with engine.begin() as connection:
        savepoint = connection.begin_nested()
        with Batch.create(app=app, connection=connection).jobs(connection=connection):
            add.delay(1)
        savepoint.rollback()
    assert (rows(app), messages(app)) == ([], [])


def test_sessions(app: Celery, engine: sa.Engine, add: Any) -> None:
    """A Session is joined like a connection: commit, rollback and nested transactions alike."""
    batch = Batch.create(app=app)
    with Session(engine) as session:
        with batch.jobs(connection=session):
            add.delay("dropped")
        session.rollback()
        with batch.jobs(connection=session):
            add.delay("kept")
        with pytest.raises(ValueError, match=r"inner"), session.begin_nested():
            with batch.jobs(connection=session):
                add.delay("nested")
            raise ValueError("inner")
        assert messages(app) == []
        session.commit()
    assert called(app) == [("shop.add", "kept")]


def test_two_blocks_in_one_transaction(app: Celery, engine: sa.Engine, add: Any) -> None:
    """Blocks of two batches in one transaction are published together, in order."""
    first, second = Batch.create(app=app), Batch.create(app=app)
    with engine.begin() as connection:
        for batch, n in ((first, 1), (second, 2), (first, 3)):
            with batch.jobs(connection=connection):
                add.delay(n)
        assert messages(app) == []
    assert called(app) == [("shop.add", 1), ("shop.add", 2), ("shop.add", 3)]
    assert (first.progress.total, second.progress.total) == (2, 1)


def test_an_empty_block(app: Celery, engine: sa.Engine) -> None:
    """A batch whose only block is empty completes at the commit, and not before; not at a rollback."""
    for end in ("commit", "rollback"):
        batch = Batch.create(app=app)
        with engine.connect() as connection:
            with batch.jobs(connection=connection):
                pass
            assert batch.status == "pending"
            getattr(connection, end)()
        assert batch.status == ("complete" if end == "commit" else "pending")


def test_children_join_with_their_parent(app: Celery, engine: sa.Engine, add: Any) -> None:
    """A child made in a joined block, its block and its callbacks are written with it."""
    parent = Batch.create(app=app)
    with engine.begin() as connection:
        with parent.jobs(connection=connection):
            child = Batch.create(app=app).on("complete", app.tasks["shop.note"])
            with child.jobs():
                add.delay(1)
        assert rows(app) == []
    work(app)
    assert (parent.status, child.status, app.flows_test_notes) == ("complete", "complete", [(child.id,)])


def test_a_child_can_not_join_another_transaction(app: Celery, engine: sa.Engine) -> None:
    """A child made in its parent's block is written with that block, so another connection is refused."""
    parent = Batch.create(app=app)
    with parent.jobs(), engine.connect() as connection:
        with pytest.raises(BlockMisuse, match=r"can't join another transaction"):
            Batch.create(app=app, connection=connection)
        child = Batch.create(app=app)
        with (
            pytest.raises(BlockMisuse, match=r"can't join another transaction"),
            child.jobs(connection=connection),
        ):
            pytest.fail("the block must not be entered")


@pytest.mark.parametrize("how", ["engine", "execution option", "session"])
def test_autocommit_is_refused(app: Celery, engine: sa.Engine, how: str) -> None:
    """Without a transaction there is nothing to join, however the connection was set to commit each statement."""
    own = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT") if how != "execution option" else engine
    batch = Batch.create(app=app)
    with own.connect() as connection:
        if how == "execution option":
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        joined = Session(connection) if how == "session" else connection
        for join in (
            lambda: batch.jobs(connection=joined).__enter__(),
            lambda: Batch.create(connection=joined, app=app),
        ):
            with pytest.raises(BlockMisuse, match=r"autocommit mode.*engine\.begin\(\)"):
                join()
    own.dispose()


def test_what_is_no_connection_is_refused(app: Celery, engine: sa.Engine) -> None:
    """connection= takes a SQLAlchemy Connection or Session, and says so; an Engine is neither."""
    for given in ("text", 5, engine):
        with pytest.raises(BlockMisuse, match=r"takes a SQLAlchemy Connection or Session, not a"):
            Batch.create(app=app, connection=given)  # type: ignore[arg-type] # the rule under test


def test_streaming_can_not_join(app: Celery, engine: sa.Engine) -> None:
    """A streaming block commits as it goes."""
    with (
        engine.begin() as connection,
        pytest.raises(BlockMisuse, match=r"can't join a transaction"),
        Batch.create(app=app).jobs(streaming=True, connection=connection),
    ):
        pytest.fail("the block must not be entered")


@pytest.mark.parametrize("level", STRICT)
def test_growth_above_read_committed_is_refused(app: Celery, engine: sa.Engine, add: Any, level: str) -> None:
    """A running batch can't grow in a transaction that would not see it finish; a new one can start there."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    strict = sa.create_engine(engine.url, isolation_level=level)
    batch = Batch.create(app=app)
    with strict.begin() as connection, batch.jobs(connection=connection):
        add.delay(1)
    assert called(app) == [("shop.add", 1)]
    with (
        strict.begin() as connection,
        pytest.raises(JoinRefused, match=rf"is running already, .* is {level}"),
        batch.jobs(connection=connection),
    ):
        pytest.fail("the block must not be entered")
    strict.dispose()


def test_a_transaction_older_than_the_batch(app: Celery, engine: sa.Engine, add: Any) -> None:
    """A batch made after the caller's transaction took its snapshot is found all the same."""
    if engine.dialect.name != "mysql":
        pytest.skip("only MySQL's snapshots can be passed by a locking read")
    strict = sa.create_engine(engine.url, isolation_level="REPEATABLE READ")
    with strict.begin() as connection:
        connection.execute(sa.text("SELECT count(*) FROM flows_batches"))
        batch = Batch.create(app=app)
        with batch.jobs(connection=connection):
            add.delay(1)
    assert called(app) == [("shop.add", 1)]
    strict.dispose()


def test_a_batch_that_finishes_meanwhile(app: Celery, engine: sa.Engine, add: Any) -> None:
    """Growing a batch that finished while the block was open is refused, and the caller may roll back."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    batch = Batch.create(app=app)
    with batch.jobs():
        add.delay(1)
    with pytest.raises(BatchFinished), engine.begin() as connection, batch.jobs(connection=connection):
        work(app)
        add.delay(2)
    assert (batch.status, batch.progress.total, messages(app)) == ("complete", 1, [])


def test_what_publishing_raises_is_not_the_callers(app: Celery, engine: sa.Engine, add: Any, caplog: Any) -> None:
    """Once the caller's transaction is committed, trouble with publishing is logged and left to the sweep."""
    batch = Batch.create(app=app)
    with engine.begin() as connection:
        with batch.jobs(connection=connection):
            add.delay(1)
        runtime_of(app).publisher.publish = None  # type: ignore[method-assign, assignment] # as broken as can be
    assert [row.state for row in rows(app, batch_id=batch.id)] == ["ready"]
    assert "the next sweep publishes" in caplog.text


def test_the_pools_next_user_gets_nothing(app: Celery, engine: sa.Engine, add: Any) -> None:
    """What a connection was closed with, without a commit, is not published by the next to use it."""
    batch = Batch.create(app=app)
    with engine.connect() as connection, batch.jobs(connection=connection):
        add.delay(1)
    statements = counting(runtime_of(app).database)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert statements() == 0
    assert (rows(app), messages(app)) == ([], [])
