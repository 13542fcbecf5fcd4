"""Tasks of the chaos run: they take a moment, so that something can befall them meanwhile.

Those that write do it in their transaction: a row named after the job and the round in which it ran, so that
what was written can be held against the jobs that are complete.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

from acceptance.making import task
from acceptance.writing import insert
from celery import signature
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from celery_flows import Batch, Sequence, Workflow, step

#: The tasks that write.
WRITING: Final = ("jobs.note", "jobs.note_late", "jobs.note_again", "jobs.note_slowly", "jobs.tell")

#: Of these, those that go on whatever befalls their process or their database session.
LASTING: Final = ("jobs.note_late", "jobs.note_again", "jobs.tell")

#: Seconds that work takes at most.
LONGEST: Final = 0.2

#: A body whose session was ended is to run again, as a user's task would say it.
_AGAIN: Final[dict[str, Any]] = {
    "bind": True,
    "autoretry_for": (SQLAlchemyError,),
    "default_retry_delay": 0.2,
    "retry_backoff": False,
    "max_retries": None,
}


def take_a_moment() -> None:
    """Work, as far as anybody can see."""
    threading.Event().wait(random.uniform(0, LONGEST))


def effect(job_id: str, number: int) -> str:
    """What a job writes in a round; a callback, which belongs to one round only, in round 0."""
    return f"{job_id} {number}"


def _note(self: Any, how: str = "well") -> None:
    with self.job.transaction() as connection:
        insert(connection, effect(self.job.id, _round(connection, self.job.batch.id)))
        take_a_moment()
    if how == "retried" and self.request.retries < 1:
        raise self.retry(countdown=0)
    if how == "badly":
        raise ValueError("after it wrote")


def _round(connection: Connection, batch_id: str) -> int:
    asked = text("SELECT round FROM flows_batches WHERE id = :id")
    return int(connection.execute(asked, {"id": batch_id}).scalar_one())


@task(bind=True, max_retries=3)
def note(self: Any, how: str = "well") -> None:
    """Write, and end well, or in the next attempt, or badly."""
    _note(self, how)


@task(acks_late=True, reject_on_worker_lost=True, **_AGAIN)
def note_late(self: Any, how: str = "well") -> None:
    """As `note`, with a message that is acknowledged when it has run, and goes back when its process dies."""
    _note(self, how)


@task(on_loss="retry", **_AGAIN)
def note_again(self: Any, how: str = "well") -> None:
    """As `note`, of a task that bears to run twice."""
    _note(self, how)


@task(bind=True, autoretry_for=(KeyError,), default_retry_delay=0.5, max_retries=3)
def note_slowly(self: Any) -> None:
    """As `note`, with an error that Celery itself retries, after a pause."""
    _note(self)
    if self.request.retries < 1:
        raise KeyError("not yet")


@task()
def pass_by() -> None:
    """Write nothing."""
    take_a_moment()


@task(bind=True)
def grow(self: Any, size: int) -> None:
    """Add jobs, and a child with one, to the job's own batch."""
    with self.job.batch.jobs():
        for _ in range(size):
            self.app.tasks["jobs.note"].delay()
        child = Batch.create(app=self.app, description="grown", on_loss="retry")
        child.on("complete", self.app.tasks["jobs.tell"].s("complete"))
        with child.jobs():
            self.app.tasks["jobs.note_late"].delay()


@task(**_AGAIN)
def tell(self: Any, batch_id: str, event: str) -> None:
    """A callback that writes."""
    assert self.job.batch.id == batch_id, event
    with self.job.transaction() as connection:
        insert(connection, effect(self.job.id, 0))
        take_a_moment()


class Errand(Sequence):
    """Three steps."""

    on_loss = "retry"
    first = step(signature("jobs.note"))
    second = step(signature("jobs.note_late"), retries=2)
    third = step(signature("jobs.note_again"))


class Knot(Workflow):
    """A wide join, a flow and a growing job before it, a failure, and what is done about it."""

    on_loss = "retry"
    #: The job that fails, and the one that waits for it in vain.
    tolerate = 2

    def plan(self, end: str) -> None:
        """Say what is run; the errand's neighbour ends as told."""
        first = self.run("jobs.note_late")
        sides = [self.run("jobs.note_again", after=first) for _ in range(3)]
        sides += [self.run(Errand.s(), after=first), self.run("jobs.grow", 1, after=first)]
        low = [self.run("jobs.note_late", after=sides) for _ in range(2)]
        broken = self.run("jobs.note_again", end, after=first)
        self.run("jobs.note", after=broken)
        rescue = self.run("jobs.note_again", after=broken, when="failure")
        self.run("jobs.note_late", after=[*low, rescue], when="settled")
