"""Fan-out: from the first call to the last message with the broker. No worker consumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery import chord, group

from benchmarks.case import Case, Figures, at_least, beside
from benchmarks.services import World, purge
from celery_flows import Batch


def ours(world: World, n: int) -> Figures:
    """A block of a batch."""
    world.clear()
    job = world.task(world.ours, "nothing")

    def run() -> None:
        batch = Batch.create(app=world.ours)
        with batch.jobs():
            for number in range(n):
                job.delay(number)

    return _rate(world.ours, n, run)


def plain_group(world: World, n: int) -> Figures:
    """Celery's group, without results."""
    job = world.task(world.plain, "nothing")
    return _rate(world.plain, n, lambda: group(job.s(number) for number in range(n)).apply_async())


def plain_loop(world: World, n: int) -> Figures:
    """The same calls, published one by one."""
    job = world.task(world.plain, "nothing")

    def run() -> None:
        for number in range(n):
            job.delay(number)

    return _rate(world.plain, n, run)


def plain_chord(world: World, n: int) -> Figures:
    """Celery's chord, which keeps a result per member."""
    member = world.task(world.plain, "kept.nothing")
    body = world.task(world.plain, "arrive").s(str(world.scratch / "never"))
    return _rate(world.plain, n, lambda: chord(member.s(number) for number in range(n))(body))


def _rate(app: Any, n: int, run: Callable[[], object]) -> Figures:
    try:
        started = time.perf_counter()
        run()
        return {"jobs/s": n / (time.perf_counter() - started)}
    finally:
        purge(app)


CASE = Case(
    name="fanout",
    about="no-op calls in a block, until all are with the broker; neither side asks RabbitMQ for confirms",
    n=20_000,
    sides={"ours": ours, "group": plain_group, "loop of delay": plain_loop, "chord": plain_chord},
    questions=beside(
        "jobs/s", group={"redis": at_least(6), "rabbitmq": at_least(2)}, loop_of_delay=None, chord=None
    ),
)
