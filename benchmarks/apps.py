"""The Celery apps under test: one with Flows, one without, with the same tasks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from celery import Celery, current_task, group

from celery_flows import Flows

#: A file that tasks write to when it matters that, or when, they ran.
_NOTES: Final = os.environ["BENCH_NOTES"]

#: Chords can't do without a result backend; it is the broker's Redis, or a Redis of its own.
_CONF = {
    "broker_url": os.environ["BENCH_BROKER_URL"],
    "result_backend": os.environ["BENCH_RESULT_URL"],
    "result_expires": 120,
    "broker_connection_retry_on_startup": True,
    "worker_prefetch_multiplier": 16,
    "worker_hijack_root_logger": False,
}

#: Names queues and workers, as others may be measuring beside us.
RUN: Final = os.environ["BENCH_RUN"]

plain = Celery("plain", set_as_current=False)
plain.conf.update(_CONF, task_default_queue=f"bench_plain_{RUN}")

ours = Celery("ours")
ours.conf.update(_CONF, task_default_queue=f"bench_ours_{RUN}")
Flows(ours, database_url=os.environ["BENCH_DATABASE_URL"])


def nothing(number: int = 0) -> None:
    """Do nothing: what is left is the cost of the machinery."""


def nap(number: int = 0) -> None:
    """Take 10 ms."""
    time.sleep(0.01)


def arrive(_results: object, marker: str) -> None:
    """The end of a run: the callback, or the last message in the queue."""
    Path(marker).touch()


def tick(_results: object = None) -> None:
    """Be counted."""
    _note(".")


def ends(number: int = 0) -> None:
    """Write down when it ended."""
    _note(f"ended {time.perf_counter_ns()}\n")


def begins(_results: object = None) -> None:
    """Write down when it began."""
    _note(f"began {time.perf_counter_ns()}\n")


def hops() -> None:
    """Write down when it ended, and call another."""
    _note(f"ended {time.perf_counter_ns()}\n")
    current_task.app.tasks["bench.begins"].delay()


def fans(number: int) -> None:
    """Publish a group of so many that are counted."""
    count = current_task.app.tasks["bench.tick"]
    group(count.si() for _ in range(number)).apply_async()


def _note(text: str) -> None:
    # Appended in one write, so that what two processes say does not mix.
    file = os.open(_NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, text.encode())
    os.close(file)


def _register(app: Celery, functions: Iterable[Callable[..., None]]) -> None:
    """Each under two names: without its result, and with it, as the members of a chord need it."""
    for function in functions:
        name = function.__name__
        app.task(name=f"bench.{name}", ignore_result=True, shared=False)(function)
        app.task(name=f"bench.kept.{name}", ignore_result=False, shared=False)(function)


for _app in (plain, ours):
    _register(_app, (nothing, nap, arrive, tick, ends, begins, hops, fans))


def task(app: Celery, name: str) -> Any:
    """A task of an app."""
    return app.tasks[f"bench.{name}"]
