"""What is enrolled in Django code takes part in Django's transaction."""

from __future__ import annotations

from typing import Any

import pytest
from apps import called, messages, notes_of, rows, work
from celery import Celery
from django.db import connections, transaction
from orders.models import Order

from celery_flows import Batch, BatchFinished
from celery_flows.contrib.django.models import FlowBatch


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
