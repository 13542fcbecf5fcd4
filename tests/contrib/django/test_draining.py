"""Running jobs in a project's own tests: drain() in Django's TestCase and TransactionTestCase."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apps import rows
from celery import Celery
from django.db import transaction
from django.test import TestCase, TransactionTestCase
from djangos import run_cases
from orders.models import Order

from celery_flows import Batch
from celery_flows.errors import BlockMisuse
from celery_flows.testing import assert_callback, assert_enrolled, drain, in_memory


def filled(app: Celery, *arguments: Any, task: str = "shop.add") -> Batch:
    """A batch of calls, that notes when it is complete or failed."""
    note = app.tasks["shop.note"]
    batch = Batch.create(app=app).on("complete", note).on("failure", note)
    with batch.jobs():
        for one in arguments:
            app.tasks[task].delay(one)
    return batch


def test_a_test_case(app: Celery, alias: str) -> None:
    """In a TestCase drain() takes the test's transaction as committed: all that follows runs, nothing stays."""

    def test_1(self: Any) -> None:
        batch = filled(app, 1, 2)
        assert_enrolled(app.tasks["shop.add"], args=[2], batch=batch)
        assert [ran.task for ran in drain(app)] == ["shop.add", "shop.add", "shop.note"]
        assert_callback(batch, "complete")
        assert (batch.status, app.flows_test_notes, drain(app)) == ("complete", [(batch.id,)], [])

    run_cases(TestCase, alias, test_1=test_1)
    assert rows(app) == []


def test_what_was_let_commit_is_not_published_twice(app: Celery, alias: str) -> None:
    """Callbacks that Django's own helper has executed are over."""

    def test_1(self: Any) -> None:
        with self.captureOnCommitCallbacks(using=alias, execute=True):
            batch = filled(app, "no", "no", task="shop.fail")
        assert [ran.task for ran in drain(app, at_most=1)] == ["shop.fail"]
        with self.captureOnCommitCallbacks(using=alias, execute=True):
            batch.on("failure", app.tasks["shop.note"])
        assert [ran.task for ran in drain(app)] == ["shop.fail", "shop.note", "shop.note"]

    run_cases(TestCase, alias, test_1=test_1)


def test_a_job_that_waits_for_a_commit(app: Celery, alias: str) -> None:
    """What a job's own transaction lets wait is done as it ends; what the test itself lets wait is Django's."""
    done: list[str] = []

    def pack(number: int) -> None:
        with transaction.atomic(alias):
            Order.objects.using(alias).create(number=number)
            transaction.on_commit(lambda: done.append("job"), using=alias)

    app.task(name="shop.pack", shared=False)(pack)

    def test_1(self: Any) -> None:
        transaction.on_commit(lambda: done.append("test"), using=alias)
        filled(app, 1, task="shop.pack")
        drain(app)
        assert (done, Order.objects.using(alias).count()) == (["job"], 1)
        with self.captureOnCommitCallbacks(using=alias) as callbacks:
            filled(app, 2, task="shop.pack")
            drain(app)
        assert callbacks
        for callback in callbacks:
            callback()
        assert done == ["job", "job"]

    run_cases(TestCase, alias, test_1=test_1)


def test_what_a_worker_reports_later(app: Celery, alias: str) -> None:
    """What a worker's main process has a thread for is done in the test's own transaction."""

    def test_1(self: Any) -> None:
        batch = Batch.create(app=app)
        with batch.jobs():
            app.tasks["shop.add"].apply_async([1], expires=datetime.now(UTC) - timedelta(minutes=1))
        assert [ran.state for ran in drain(app)] == ["REVOKED"]
        assert batch.progress.cancelled == 1

    run_cases(TestCase, alias, test_1=test_1)


def test_inside_of_a_transaction(app: Celery, alias: str) -> None:
    """In a transaction of the tested code nothing is committed, so nothing can run."""

    def test_1(self: Any) -> None:
        with transaction.atomic(alias), pytest.raises(BlockMisuse, match="transaction is open here"):
            drain(app)

    run_cases(TestCase, alias, test_1=test_1)
    run_cases(TransactionTestCase, alias, test_1=test_1)


def test_a_jobs_own_transaction(app: Celery, alias: str) -> None:
    """current_job().transaction() is kept or undone with the job's outcome, in a TestCase too."""

    def pay(self: Any, number: int) -> None:
        with self.job.transaction():
            Order.objects.using(alias).create(number=number)
        if number < 0:
            raise ValueError("no")

    app.task(name="shop.pay", shared=False, bind=True)(pay)

    def test_1(self: Any) -> None:
        batch = filled(app, 1, -1, task="shop.pay")
        drain(app)
        found = [order.number for order in Order.objects.using(alias).all()]
        assert (batch.status, batch.progress.complete, found) == ("failed", 1, [1])

    run_cases(TestCase, alias, test_1=test_1)


def test_a_transaction_test_case(app: Celery, alias: str) -> None:
    """In a TransactionTestCase jobs run as in production."""

    def test_1(self: Any) -> None:
        batch = filled(app, 1)
        drain(app)
        assert_callback(batch, "complete")

    run_cases(TransactionTestCase, alias, test_1=test_1)


@pytest.mark.parametrize("base", [TestCase, TransactionTestCase])
def test_a_lost_job(app: Celery, alias: str, base: type) -> None:
    """The worker in memory uses the project's database, and its clock stands still there as well."""

    def test_1(self: Any) -> None:
        worker = self.enterContext(in_memory(app))
        clock = worker.freeze()
        batch = filled(app, 1, 2)
        worker.drain(at_most=0)
        worker.die()
        worker.drain()
        clock.advance(seconds=59)
        assert (worker.sweep().lost, batch.status) == (0, "running")
        clock.advance(seconds=2)
        assert (worker.sweep().lost, batch.failed_jobs[0].error_class) == (1, "WorkerLost")
        worker.drain()
        assert_callback(batch, "failure")

    run_cases(base, alias, test_1=test_1)
    assert rows(app) == []
