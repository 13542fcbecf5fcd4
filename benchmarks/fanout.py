"""Fan-out: from the first call to the last message with the broker. No worker runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery import chord, group

from benchmarks.services import World, purge
from celery_flows import Batch


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ours(world: World, n: int) -> float:
    """A block of a batch."""
    job = world.apps.job

    def run() -> None:
        batch = Batch.create(app=world.apps.ours)
        with batch.jobs():
            for number in range(n):
                job.delay(number)

    try:
        return _timed(run)
    finally:
        purge(world.apps.ours)


def plain_loop(world: World, n: int) -> float:
    """The same calls, published one by one."""
    job = world.apps.plain_job

    def run() -> None:
        for number in range(n):
            job.delay(number)

    return _purged(world, run)


def plain_group(world: World, n: int) -> float:
    """Celery's group, without results."""
    job = world.apps.plain_job
    return _purged(world, lambda: group(job.s(number) for number in range(n)).apply_async())


def plain_chord(world: World, n: int) -> float:
    """Celery's chord, which keeps a result per member."""
    apps = world.apps
    body = apps.plain_callback.s(str(world.scratch / "never"))
    return _purged(world, lambda: chord(apps.plain_member.s(number) for number in range(n))(body))


def _purged(world: World, run: Callable[[], object]) -> float:
    try:
        return _timed(run)
    finally:
        purge(world.apps.plain)


SIDES = {"ours": ours, "delay in a loop": plain_loop, "group": plain_group, "chord": plain_chord}
