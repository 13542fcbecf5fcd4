"""Batches in a project's own tests: Django's TestCase and TransactionTestCase."""

from __future__ import annotations

from typing import Any

import pytest
from apps import called, rows
from celery import Celery
from django.core.management import call_command
from django.db import connections
from django.test import TestCase, TransactionTestCase
from django.test.utils import override_settings
from djangos import run_cases
from orders.models import Order

from celery_flows import Batch
from celery_flows.contrib.django.models import FlowBatch


def test_test_case(app: Celery, alias: str) -> None:
    """In a TestCase a test sees what it enrolls, publishes what it lets commit, and leaves nothing behind."""

    def test_1(self: Any) -> None:
        with self.captureOnCommitCallbacks(using=alias) as callbacks:
            Order.objects.using(alias).create(number=1)
            batch = Batch.create(app=app)
            with batch.jobs():
                app.tasks["shop.add"].delay(1)
        assert (batch.status, batch.progress.total, len(callbacks)) == ("running", 1, 1)
        assert [job.args for job in batch.pending_jobs] == [[1]]
        assert called(app) == []
        callbacks[0]()
        assert called(app) == [("shop.add", 1)]

    def test_2(self: Any) -> None:
        assert (FlowBatch.objects.count(), Order.objects.using(alias).count()) == (0, 0)

    run_cases(TestCase, alias, test_1=test_1, test_2=test_2)
    assert rows(app) == []


def test_test_case_with_an_eager_app(app: Celery, alias: str) -> None:
    """With task_always_eager the jobs, and the callbacks after them, run where the commit is let happen."""
    app.conf.task_always_eager = True

    def test_1(self: Any) -> None:
        with self.captureOnCommitCallbacks(using=alias, execute=True):
            batch = Batch.create(app=app).on("complete", app.tasks["shop.note"])
            with batch.jobs():
                for number in range(4):
                    app.tasks["shop.add"].delay(number)
            assert batch.status == "running"
        assert (batch.status, app.flows_test_notes) == ("complete", [(batch.id,)])

    def test_2(self: Any) -> None:
        app.conf.task_eager_propagates = True
        committing = self.captureOnCommitCallbacks(using=alias, execute=True)
        with pytest.raises(ValueError, match=r"no"), committing, Batch.create(app=app).jobs():
            app.tasks["shop.fail"].delay()

    run_cases(TestCase, alias, test_1=test_1, test_2=test_2)


def test_a_jobs_own_transaction(app: Celery, alias: str) -> None:
    """In a TestCase an eager job's own transaction is a savepoint, kept or undone with its outcome."""
    app.conf.task_always_eager = True

    def pay(self: Any, number: int) -> None:
        with self.job.transaction():
            Order.objects.using(alias).create(number=number)
        if number < 0:
            raise ValueError("no")

    app.task(name="shop.pay", shared=False, bind=True)(pay)

    def test_1(self: Any) -> None:
        with self.captureOnCommitCallbacks(using=alias, execute=True):
            batch = Batch.create(app=app)
            with batch.jobs():
                for number in (1, -1):
                    app.tasks["shop.pay"].delay(number)
        found = [order.number for order in Order.objects.using(alias).all()]
        assert (batch.status, batch.progress.complete, found) == ("failed", 1, [1])

    run_cases(TestCase, alias, test_1=test_1)


def test_transaction_test_case(app: Celery, alias: str) -> None:
    """In a TransactionTestCase it is as in production, and flush takes our rows away after each test."""

    def test_1(self: Any) -> None:
        with connections[alias].cursor():
            batch = Batch.create(app=app)
        with batch.jobs():
            app.tasks["shop.add"].delay(1)
        assert called(app) == [("shop.add", 1)]

    def test_2(self: Any) -> None:
        assert (FlowBatch.objects.count(), rows(app)) == (0, [])

    run_cases(TransactionTestCase, alias, test_1=test_1, test_2=test_2)


def test_flush_elsewhere(app: Celery, alias: str) -> None:
    """A flush of another database leaves batches alone."""
    batch = Batch.create(app=app)
    with override_settings(CELERY_FLOWS_DJANGO_DATABASE="default"):
        call_command("flush", database=alias, interactive=False, verbosity=0)
    assert batch.status == "pending"
