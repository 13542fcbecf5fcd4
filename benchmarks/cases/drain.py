"""Drain: from the moment the worker may consume, to the callback (for a group: the message behind the last)."""

from __future__ import annotations

from typing import Any

from celery import chord, group

from benchmarks.case import Case, Figures, at_most, beside
from benchmarks.services import World
from benchmarks.workers import drained
from celery_flows import Batch


def as_batch(world: World, n: int, name: str) -> Figures:
    """Jobs of a batch with a callback."""
    world.clear()
    job, callback = world.task(world.ours, name), world.task(world.ours, "arrive")

    def publish(marker: str) -> None:
        batch = Batch.create(app=world.ours)
        batch.on("complete", callback.s(marker))
        with batch.jobs():
            for number in range(n):
                job.delay(number)

    return drained(world, world.ours, publish)


def untracked(world: World, app: Any, n: int, name: str) -> Figures:
    """A group without results: nobody knows when it is done, so one more message is put behind it."""
    job, callback = world.task(app, name), world.task(app, "arrive")

    def publish(marker: str) -> None:
        group(job.s(number) for number in range(n)).apply_async()
        callback.delay(None, marker)

    return drained(world, app, publish)


def as_chord(world: World, n: int) -> Figures:
    """The header of a chord, its results in Redis."""
    member, callback = world.task(world.plain, "kept.nothing"), world.task(world.plain, "arrive")

    def publish(marker: str) -> None:
        chord(member.s(number) for number in range(n))(callback.s(marker))

    return drained(world, world.plain, publish)


CASE = Case(
    name="drain",
    about="queued no-op jobs on a prefork worker of 2 processes, until the callback ran",
    n=20_000,
    sides={
        "ours": lambda world, n: as_batch(world, n, "nothing"),
        "untracked": lambda world, n: untracked(world, world.plain, n, "nothing"),
        "chord": as_chord,
    },
    questions=[
        *beside("s", untracked=at_most(1.2), chord=at_most(0.85)),
        *beside("CPU s of the worker", untracked=None, chord=None),
    ],
)
