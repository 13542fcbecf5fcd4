"""delay_on_commit in a block: the call, and the block's end, wait for Django's commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, messages, notes_of, plain_app, rows, runtime_of, shop_tasks, work
from celery import Celery
from django.db import transaction
from djangos import set_up

from celery_flows import Batch, Flows, NotJson
from celery_flows.errors import BlockMisuse, ResultNotReady

set_up()


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app whose tasks are Celery's DjangoTask."""
    app = plain_app(task_cls="celery.contrib.django.task:DjangoTask")
    Flows(app, database_url=file_url, chunk_size=3)
    shop_tasks(app)
    yield app
    runtime_of(app).database.close()


@pytest.fixture
def add(app: Celery) -> Any:
    """A task."""
    return app.tasks["shop.add"]


def test_at_the_commit(app: Celery, add: Any) -> None:
    """The block's jobs are enrolled and published together once the transaction around it is committed."""
    batch = Batch.create(app=app)
    with transaction.atomic():
        with batch.jobs():
            add.delay_on_commit(1)
            result = add.delay(2)
            add.apply_async_on_commit((3,), {"y": 4}, queue="later")
        assert (rows(app), messages(app), batch.status) == ([], [], "pending")
        with pytest.raises(ResultNotReady):
            result.get(timeout=1)
    assert sorted(called(app)) == [("shop.add", 1), ("shop.add", 2)]
    assert called(app, "later") == [("shop.add", 3)]
    assert (batch.status, batch.progress.total) == ("running", 3)


def test_at_a_rollback(app: Celery, add: Any) -> None:
    """If the transaction around the block is rolled back, nothing of the block is enrolled."""
    batch = Batch.create(app=app)
    with pytest.raises(ValueError, match=r"no"), transaction.atomic():
        with batch.jobs():
            add.delay_on_commit(1)
            add.delay(2)
        raise ValueError("no")
    assert (rows(app), messages(app), batch.status) == ([], [], "pending")


def test_savepoints_inside_the_block(app: Celery, add: Any) -> None:
    """A call whose own savepoint is rolled back is forgotten; the others of its block are not."""
    batch = Batch.create(app=app)
    with transaction.atomic(), batch.jobs():
        with transaction.atomic():
            add.delay_on_commit("kept")
        with pytest.raises(ValueError, match=r"no"), transaction.atomic():
            add.delay_on_commit("dropped")
            raise ValueError("no")
    assert called(app) == [("shop.add", "kept")]
    assert batch.progress.total == 1


def test_transactions_inside_the_block(app: Celery, add: Any) -> None:
    """A transaction that begins and ends inside the block decides about its own calls only."""
    batch = Batch.create(app=app)
    with batch.jobs():
        for n in range(5):
            with transaction.atomic():
                add.delay_on_commit(n)
        with pytest.raises(ValueError, match=r"no"), transaction.atomic():
            add.delay_on_commit("dropped")
            raise ValueError("no")
        assert messages(app) == []
    assert called(app) == [("shop.add", n) for n in range(5)]


def test_a_block_that_raises(app: Celery, add: Any) -> None:
    """If the block raises and the transaction is committed all the same, nothing is enrolled."""
    batch = Batch.create(app=app)
    with transaction.atomic(), pytest.raises(ValueError, match=r"no"), batch.jobs():
        add.delay_on_commit(1)
        raise ValueError("no")
    assert (rows(app), messages(app), batch.status) == ([], [], "pending")


def test_children(app: Celery, add: Any) -> None:
    """A call in a child's block makes the parent's block wait as well, and both are enrolled together."""
    parent = Batch.create(app=app).on("complete", app.tasks["shop.note"])
    with transaction.atomic():
        with parent.jobs():
            child = Batch.create(app=app)
            with child.jobs():
                add.delay_on_commit(1)
            add.delay(2)
        assert rows(app, batch_id=parent.id) == []
    work(app)
    assert (parent.status, child.status, notes_of(app)) == ("complete", "complete", [(parent.id,)])


def test_what_json_cannot_hold(app: Celery, add: Any) -> None:
    """What can't be stored is refused at the call, not at the commit."""
    with (
        transaction.atomic(),
        pytest.raises(NotJson, match=r"Positional argument 1"),
        Batch.create(app=app).jobs(),
    ):
        add.delay_on_commit(object())


def test_without_a_transaction(app: Celery, add: Any) -> None:
    """Outside of any transaction a block ends as ever."""
    batch = Batch.create(app=app)
    with batch.jobs():
        add.delay_on_commit(1)
    assert (called(app), batch.progress.total) == ([("shop.add", 1)], 1)


def test_without_a_block(app: Celery, add: Any) -> None:
    """Without a block it is Celery's own: published at the commit, untracked, and not after a rollback."""
    with transaction.atomic():
        add.delay_on_commit(1)
        assert messages(app) == []
    with pytest.raises(ValueError, match=r"no"), transaction.atomic():
        add.delay_on_commit(2)
        raise ValueError("no")
    assert called(app) == [("shop.add", 1)]
    assert rows(app) == []


def test_the_end_of_the_block_binds(app: Celery, add: Any) -> None:
    """A call made in a block stays that block's, though its transaction is committed in another one."""
    first, second = Batch.create(app=app), Batch.create(app=app)
    outer = transaction.atomic()
    outer.__enter__()
    with first.jobs():
        add.delay_on_commit("first")
    with second.jobs():
        outer.__exit__(None, None, None)
        add.delay("second")
    assert (first.progress.total, second.progress.total) == (1, 1)
    assert called(app) == [("shop.add", "first"), ("shop.add", "second")]


def test_streaming(app: Celery, add: Any) -> None:
    """In a streaming block transactions stand inside; one around it would have to end first, and is refused."""
    batch = Batch.create(app=app)
    with batch.jobs(streaming=True):
        for n in range(4):
            with transaction.atomic():
                add.delay_on_commit(n)
        assert batch.progress.total == 3
    assert batch.progress.total == 4
    refused = Batch.create(app=app)
    with (
        transaction.atomic(),
        pytest.raises(BlockMisuse, match=r"Open the transaction inside"),
        refused.jobs(streaming=True),
    ):
        add.delay_on_commit(1)
    assert refused.status == "failed"
