"""What is enrolled in Django code takes part in Django's transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from apps import called, messages, notes_of, rows, runtime_of, work
from celery import Celery
from django.db import connections, transaction
from djangos import django_app
from locks import beside, on_servers, outcome
from orders.models import Order

from celery_flows import Batch, BatchExists, BatchFinished
from celery_flows.contrib.django.models import FlowBatch
from celery_flows.errors import BlockMisuse, JoinRefused, SchemaMissing
from celery_flows.messaging.sweep import sweep
from celery_flows.transitions.claim import claim


def orders(alias: str) -> list[int]:
    """The numbers of the project's own rows."""
    return list(Order.objects.using(alias).values_list("number", flat=True))


def enrolled(app: Celery, *numbers: int, **options: Any) -> Batch:
    """A batch with a callback and a job for each number."""
    batch = Batch.create(app=app, **options).on("complete", app.tasks["shop.note"])
    with batch.jobs():
        for number in numbers:
            app.tasks["shop.add"].delay(number)
    return batch


def elsewhere(alias: str, work: Any, *args: Any) -> Any:
    """Do something in another thread, and close that thread's connection."""
    try:
        return work(*args)
    finally:
        connections[alias].close()


def test_a_commit(app: Celery, alias: str) -> None:
    """The project's rows, the batch and its jobs are committed together; then the jobs are published, and run."""
    with transaction.atomic(alias):
        Order.objects.using(alias).create(number=1)
        batch = enrolled(app, 1, 2, 3, 4)
        assert (batch.status, batch.progress.total) == ("running", 4)
        assert messages(app) == []
    assert orders(alias) == [1]
    assert {row.state for row in rows(app, batch_id=batch.id)} == {"queued"}
    work(app)
    assert (batch.status, notes_of(app)) == ("complete", [(batch.id,)])


def test_a_rollback(app: Celery, alias: str) -> None:
    """Of a transaction that is rolled back nothing is left, and nothing is published."""
    with pytest.raises(ValueError, match=r"no"), transaction.atomic(alias):
        Order.objects.using(alias).create(number=1)
        enrolled(app, 1, 2)
        raise ValueError("no")
    assert (orders(alias), rows(app), FlowBatch.objects.count(), messages(app)) == ([], [], 0, [])


def test_without_a_transaction(app: Celery, alias: str) -> None:
    """Outside of any transaction a block ends as ever: committed, then published."""
    batch = enrolled(app, 1, 2)
    assert called(app) == [("shop.add", 1), ("shop.add", 2)]
    assert not connections[alias].in_atomic_block
    assert {row.state for row in rows(app, batch_id=batch.id)} == {"queued"}


def test_savepoints(app: Celery, alias: str) -> None:
    """What was enrolled in a savepoint that is rolled back is neither there nor published."""
    with transaction.atomic(alias):
        kept = enrolled(app, 1)
        with pytest.raises(ValueError, match=r"no"), transaction.atomic(alias):
            enrolled(app, 2)
            raise ValueError("no")
    assert called(app) == [("shop.add", 1)]
    assert [row.id for row in FlowBatch.objects.all()] == [kept.id]


def test_what_is_refused_leaves_the_transaction_usable(app: Celery, alias: str) -> None:
    """An enrolment that is refused in a transaction leaves nothing of itself, and the transaction goes on."""
    batch = enrolled(app, 1)
    work(app)
    with transaction.atomic(alias):
        block = batch.jobs()
        with pytest.raises(BatchFinished):
            block.__enter__()
        Order.objects.using(alias).create(number=1)
    assert orders(alias) == [1]


@on_servers
def test_a_block_that_is_refused_at_its_end(app: Celery, alias: str) -> None:
    """Jobs that meet a finished batch when their block ends are not there, and the project's rows are."""
    batch = enrolled(app, 1)
    with transaction.atomic(alias):
        block = batch.jobs()
        block.__enter__()
        app.tasks["shop.add"].delay(2)
        outcome(beside(elsewhere, alias, work, app))
        with pytest.raises(BatchFinished):
            block.__exit__(None, None, None)
        Order.objects.using(alias).create(number=1)
    assert (orders(alias), batch.progress.total, messages(app)) == ([1], 1, [])


def test_a_crash_between_commit_and_publish(app: Celery, alias: str) -> None:
    """What a process that died after the commit has not published, the sweep publishes."""
    with transaction.atomic(alias):
        batch = enrolled(app, 1, 2)
        connections[alias].run_on_commit = []
    assert messages(app) == []
    assert sweep(runtime_of(app), age=0).published == 2
    work(app)
    assert batch.status == "complete"


def test_an_error_after_the_commit(app: Celery, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong while publishing does not look as if the transaction had failed."""

    def gone(*args: Any) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(runtime_of(app).publisher, "_publish_chunk", gone)
    with transaction.atomic(alias):
        batch = enrolled(app, 1)
    assert {row.state for row in rows(app, batch_id=batch.id)} == {"ready"}


def test_flows_children_and_steering(app: Celery, alias: str) -> None:
    """Flows and children are started, and batches cancelled and run again, in the transaction or not at all."""
    with transaction.atomic(alias):
        parent = Batch.create(app=app, description="parent")
        with parent.jobs():
            child = enrolled(app, 1)
            app.tasks["shop.add"].delay(2)
    with transaction.atomic(alias):
        parent.cancel()
        transaction.set_rollback(True, using=alias)
    assert (parent.status, child.status) == ("running", "running")
    with transaction.atomic(alias):
        parent.cancel()
    assert (parent.status, child.status) == ("cancelled", "cancelled")
    messages(app)
    with transaction.atomic(alias):
        child.retry()
        assert messages(app) == []
    assert called(app) == [("shop.add", 1)]


def test_a_key_that_is_taken(app: Celery, alias: str) -> None:
    """A second batch with a key is refused, and the transaction goes on."""
    with transaction.atomic(alias):
        first = Batch.create(app=app, key="night")
        with pytest.raises(BatchExists) as refused:
            Batch.create(app=app, key="night")
        Order.objects.using(alias).create(number=1)
    assert (refused.value.batch_id, orders(alias)) == (first.id, [1])


def test_streaming(app: Celery, alias: str) -> None:
    """A streaming block commits as it goes: not in a transaction; those that stand inside decide nothing."""
    batch = Batch.create(app=app)
    with (
        transaction.atomic(alias),
        pytest.raises(BlockMisuse, match=r"can't join a transaction"),
        batch.jobs(streaming=True),
    ):
        pass
    with batch.jobs(streaming=True):
        app.tasks["shop.add"].delay(0)
        with pytest.raises(ValueError, match=r"no"), transaction.atomic(alias):
            for number in range(1, 5):
                app.tasks["shop.add"].delay(number)
            raise ValueError("no")
    assert sorted(called(app)) == [("shop.add", number) for number in range(5)]


def test_without_autocommit(app: Celery, alias: str) -> None:
    """Where the project commits by itself nobody can wait for it, so batches are committed on their own."""
    if alias == "sqlite":
        pytest.skip("SQLite has one writer: the project's own transaction is in the way")
    transaction.set_autocommit(False, using=alias)
    try:
        Order.objects.using(alias).create(number=1)
        batch = enrolled(app, 1)
        transaction.rollback(using=alias)
    finally:
        transaction.set_autocommit(True, using=alias)
    assert (orders(alias), batch.progress.total, called(app)) == ([], 1, [("shop.add", 1)])


def test_a_broken_transaction(app: Celery, alias: str) -> None:
    """In a transaction that can only be rolled back nothing is enrolled, as nothing is saved."""
    with transaction.atomic(alias):
        transaction.set_rollback(True, using=alias)
        with pytest.raises(transaction.TransactionManagementError):
            enrolled(app, 1)
    assert rows(app) == []


def test_threads(app: Celery, alias: str) -> None:
    """Each thread is in its own transaction: that of another decides nothing for it."""
    if alias == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with pytest.raises(ValueError, match=r"no"), transaction.atomic(alias):
        enrolled(app, 1)
        there = outcome(beside(elsewhere, alias, enrolled, app, 2))
        raise ValueError("no")
    assert (called(app), there.progress.total) == ([("shop.add", 2)], 1)


def test_a_connection_that_was_lost(app: Celery, alias: str) -> None:
    """A persistent connection that the server has closed is noticed, and another is opened."""
    if alias == "sqlite":
        pytest.skip("a file does not go away")
    enrolled(app, 1)
    kill(connections[alias])
    assert enrolled(app, 2).progress.total == 1


def kill(wrapper: Any) -> None:
    """End a connection on the server's side."""
    is_postgresql = wrapper.vendor == "postgresql"
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if is_postgresql else "SELECT connection_id()")
        (number,) = cursor.fetchone()
    other = wrapper.copy()
    with other.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend({number}, 5000)" if is_postgresql else f"KILL {number}")
    other.close()


@on_servers
def test_growth_above_read_committed(app: Celery, alias: str) -> None:
    """A batch that runs is not made larger in a transaction that can't see it finish; a new one is fine."""
    batch = enrolled(app, 1)
    with isolated(alias), transaction.atomic(alias):
        enrolled(app, 2)
        with pytest.raises(JoinRefused):
            batch.jobs().__enter__()


@contextmanager
def isolated(alias: str) -> Iterator[None]:
    """REPEATABLE READ for the connection of this thread."""
    wrapper = connections[alias]
    said = "CHARACTERISTICS AS " if wrapper.vendor == "postgresql" else ""
    for level in ("REPEATABLE READ", "READ COMMITTED"):
        with wrapper.cursor() as cursor:
            cursor.execute(f"SET SESSION {said}TRANSACTION ISOLATION LEVEL {level}")
        if level == "REPEATABLE READ":
            yield


def test_tables_that_are_missing(alias: str) -> None:
    """Where the tables are missing that is said, and a transaction that is open goes on."""
    with django_app(alias, table_prefix="nowhere_") as app, transaction.atomic(alias):
        for use in (Batch.list, Batch.create):
            with pytest.raises(SchemaMissing):
                use(app=app)
        Order.objects.using(alias).create(number=1)
    assert orders(alias) == [1]


def test_jobs_are_ended_after_the_commit(app: Celery, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that run are told to end once the cancel is committed, and not if it is rolled back."""
    told: list[list[str]] = []
    monkeypatch.setattr(app.control, "revoke", lambda ids, **_: told.append(ids))
    batch = enrolled(app, 1)
    [job] = rows(app, batch_id=batch.id)
    claim(runtime_of(app).database, job.id, 1, "token")
    for is_kept in (False, True):
        with transaction.atomic(alias):
            batch.cancel(terminate=True)
            transaction.set_rollback(not is_kept, using=alias)
            assert told == []
    assert told == [[job.id]]


def test_an_empty_block(app: Celery, alias: str) -> None:
    """A block without jobs ends its batch in the transaction; the callback is published behind it."""
    with transaction.atomic(alias):
        batch = enrolled(app)
        assert (batch.status, messages(app)) == ("complete", [])
    assert called(app) == [("shop.note", batch.id)]
