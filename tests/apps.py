"""Apps for tests that need no worker process: a broker in memory, and a hand that works off its queue."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Queue
from kombu.transport.memory import Channel

from celery_flows import Flows
from celery_flows.messaging.runtime import Runtime, attached_to
from celery_flows.store.database import Database
from celery_flows.testing import drain
from celery_flows.testing.running import run


def plain_app(name: str = "shop", **options: Any) -> Celery:
    """A Celery app with a queue of its own in this process's memory, without Flows."""
    app = Celery(name, broker="memory://", set_as_current=False, **options)
    app.conf.task_default_queue = f"{name}-{uuid.uuid4().hex}"
    return app


@contextmanager
def flows_app(database_url: str, name: str = "shop", **settings: Any) -> Iterator[Celery]:
    """Such an app with Flows, and with the tasks of `shop_tasks`; its connections are closed at the end."""
    app = plain_app(name)
    Flows(app, database_url=database_url, **settings)
    shop_tasks(app)
    try:
        yield app
    finally:
        runtime_of(app).database.close()
        app.close()
        # The broker in memory is the whole process's, and queues have names that other tests use too.
        Channel.queues.clear()


def shop_tasks(app: Celery) -> None:
    """Tasks that most tests can do with."""

    @app.task(name="shop.add", shared=False)
    def add(x: int, y: int = 0) -> int:
        return x + y

    @app.task(name="shop.fail", shared=False)
    def fail(problem: str = "no") -> None:
        raise ValueError(problem)

    @app.task(name="shop.total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="shop.note", shared=False)
    def note(*args: Any, **kwargs: Any) -> None:
        notes_of(app).append((*args, kwargs) if kwargs else args)

    app.flows_test_notes = []


def notes_of(app: Celery) -> list[Any]:
    """What the task shop.note was called with."""
    notes: list[Any] = app.flows_test_notes
    return notes


def runtime_of(app: Celery) -> Runtime:
    """The app's runtime."""
    runtime = attached_to(app)
    assert runtime is not None
    return runtime


def messages(app: Celery, queue: str | None = None) -> list[Any]:
    """Take all messages out of a queue."""
    name = queue or app.conf.task_default_queue
    found = []
    with app.connection_for_read() as connection:
        bound = Queue(name)(connection.default_channel)
        bound.queue_declare()
        while (message := bound.get(no_ack=True)) is not None:
            found.append(message)
    return found


def called(app: Celery, queue: str | None = None) -> list[tuple[Any, ...]]:
    """Take all messages out of a queue: each as the task's name and its positional arguments."""
    return [(message.headers["task"], *message.payload[0]) for message in messages(app, queue)]


def work(app: Celery) -> None:
    """Run what is in the default queue, and what comes in meanwhile, as a worker does."""
    drain(app, queues=[app.conf.task_default_queue])


def run_message(app: Celery, message: Any) -> None:
    """Run one message, that `messages` has taken, as a worker does."""
    run(app, message, acknowledge=False)


def rows(database: Database | Celery, **where: Any) -> list[Any]:
    """All job rows, in order of id."""
    database = database if isinstance(database, Database) else runtime_of(database).database
    jobs = database.tables.jobs
    with database.reading() as connection:
        return list(connection.execute(jobs.select().filter_by(**where).order_by(jobs.c.id)))


def counting(database: Database) -> Callable[[], int]:
    """Count what the driver is given from here on: call it for the number of statements so far."""
    seen = [0]
    import sqlalchemy as sa

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def _seen(*args: Any) -> None:
        seen[0] += 1

    return lambda: seen[0]
