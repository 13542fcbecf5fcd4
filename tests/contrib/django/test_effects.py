"""A job's own transaction is Django's atomic block, which commits with the job's outcome."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from apps import called, rows, runtime_of, work
from celery import Celery
from django.db import connections, transaction
from orders.models import Order

from celery_flows import Batch, Sequence, step


@pytest.fixture
def app(app: Celery, alias: str) -> Celery:
    """The app, in a process that is a worker's, with tasks that write rows."""
    runtime_of(app).is_worker = True

    def pay(self: Any, number: int, problem: str | None = None) -> None:
        """Write a row by Django and one by SQLAlchemy."""
        with self.job.transaction() as connection:
            connection.execute(sa.text("INSERT INTO orders_order (number) VALUES (:number)"), {"number": -number})
        Order.objects.using(alias).create(number=number)
        transaction.on_commit(lambda: app.tasks["shop.add"].delay(number), using=alias)
        if self.job.batch.id != self.request.id:
            self.job.data["paid"] = number
        if problem == "raise":
            raise ValueError(problem)
        if problem == "break" and self.job.attempt == 1:
            transaction.set_rollback(True, using=alias)
        if problem == "take":
            take(app, self.request.id)

    def inside(self: Any) -> None:
        """Begin a job's transaction where it can't end with the job."""
        with transaction.atomic(alias), self.job.transaction():
            pass

    app.task(name="shop.pay", shared=False, bind=True, on_loss="retry")(pay)
    app.task(name="shop.inside", shared=False, bind=True)(inside)
    return app


def take(app: Celery, job_id: str) -> None:
    """Let another worker have a job."""
    database = runtime_of(app).new_database()
    jobs = database.tables.jobs
    if database.dialect == "sqlite":
        # The job's own transaction is the only writer.
        database = runtime_of(app).database
    with database.engine.begin() as connection:
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(token="another"))
    database.close()


def paid(app: Celery, *args: Any) -> tuple[Batch, Any]:
    """A batch of one call, worked off; and the job's row."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.pay"].delay(*args)
    work(app)
    return batch, rows(app, batch_id=batch.id)[0]


def numbers(alias: str) -> list[int]:
    """What the jobs have written."""
    return sorted(Order.objects.using(alias).values_list("number", flat=True))


def test_it_commits_with_the_outcome(app: Celery, alias: str) -> None:
    """What a job writes by Django and by SQLAlchemy, its data and its outcome are committed together, once."""
    seen = []
    app.tasks["shop.add"].run = lambda number: seen.append((number, numbers(alias)))
    batch, job = paid(app, 1)
    assert (batch.status, job.state, numbers(alias)) == ("complete", "complete", [-1, 1])
    assert seen == [(1, [-1, 1])]
    assert not connections[alias].in_atomic_block


def test_the_next_step_begins_with_the_commit(app: Celery, alias: str) -> None:
    """It is published as soon as the one before, what that wrote and its own turn are committed."""

    class Paying(Sequence):
        first = step(app.tasks["shop.pay"].si(1))
        second = step(app.tasks["shop.pay"].si(2))

    run = Paying.start()
    work(app)
    assert (run.status, run.data["paid"], numbers(alias)) == ("complete", 2, [-2, -1, 1, 2])
    assert [(job.delivery, job.releasing_since) for job in rows(app, batch_id=run.id)] == [(1, None), (1, None)]


@pytest.mark.parametrize("problem", ["raise", "take"])
def test_it_rolls_back(app: Celery, alias: str, problem: str) -> None:
    """Of a job that fails, or that another worker has taken meanwhile, nothing is left."""
    _, job = paid(app, 1, problem)
    assert (job.state != "complete", numbers(alias), called(app)) == (True, [], [])
    assert not connections[alias].in_atomic_block


def test_one_that_is_left_broken(app: Celery, alias: str) -> None:
    """Where the task has left its transaction as one to be rolled back, the job has no outcome, and runs again."""
    batch, job = paid(app, 1, "break")
    assert (batch.status, job.attempt, numbers(alias)) == ("complete", 2, [-1, 1])


def test_inside_of_another(app: Celery, alias: str) -> None:
    """A job's transaction is refused inside of atomic(), which would end before it."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.inside"].delay()
    work(app)
    [job] = batch.failed_jobs
    assert "it can't begin inside of transaction.atomic()" in job.error_message
