"""Join: many jobs, then one, then many, as a workflow."""

from __future__ import annotations

from typing import Final

from celery import chain, group
from sqlalchemy import func, select

from benchmarks.case import Case, Figures, Of, Question, at_most
from benchmarks.services import World
from benchmarks.workers import counted
from celery_flows import Workflow

#: What "linear" means: a job of a workflow costs what one of a workflow a quarter as large costs.
_LINEAR: Final = 1.05


class Join(Workflow):
    """So many jobs, one that waits for all of them, and so many that wait for it, which are counted."""

    def plan(self, width: int) -> None:
        """Plan it."""
        first = [self.run("bench.nothing", number) for number in range(width)]
        middle = self.run("bench.nothing", after=first)
        for _ in range(width):
            self.run("bench.tick", after=middle)


def workflow(world: World, n: int) -> Figures:
    """From the start to the last job, and what it took in rows and messages."""
    world.clear()
    seconds = counted(world, world.ours, n, lambda: Join.using(app=world.ours).start(n))
    return {"s": seconds, **_per_job(world, 2 * n + 1)}


def canvas(world: World, n: int) -> Figures:
    """A chord into a group, as Celery's canvas writes it: each message of the first carries all of the last."""
    first, last = world.task(world.plain, "kept.nothing"), world.task(world.plain, "tick")

    def start() -> None:
        first_all, last_all = group(first.s(number) for number in range(n)), group(last.si() for _ in range(n))
        chain(first_all, first.si(), last_all).apply_async()

    return {"s": counted(world, world.plain, n, start)}


def by_hand(world: World, n: int) -> Figures:
    """A chord whose body publishes the group itself, so that messages stay small."""
    first, body = world.task(world.plain, "kept.nothing"), world.task(world.plain, "fans")

    def start() -> None:
        chain(group(first.s(number) for number in range(n)), body.si(n)).apply_async()

    return {"s": counted(world, world.plain, n, start)}


def _per_job(world: World, jobs: int) -> Figures:
    """Each publish of a job has the next number, so the last numbers say how many messages there were."""
    tables = world.database.tables
    with world.database.reading() as connection:
        messages = connection.scalar(select(func.sum(tables.jobs.c.delivery))) or 0
        counts = [select(func.count()).select_from(one) for one in (tables.batches, tables.jobs, tables.edges)]
        rows = sum(connection.scalar(one) or 0 for one in counts)
    return {"rows per job": rows / jobs, "messages per job": int(messages) / jobs}


CASE = Case(
    name="join",
    about="n jobs -> 1 -> n jobs as a workflow; the canvas needs room for n * n signatures in the broker",
    n=1_000,
    sides={
        "ours": workflow,
        "chord into group": canvas,
        "chord by hand": by_hand,
        "a quarter as many": lambda world, n: workflow(world, max(1, n // 4)),
    },
    questions=[
        Question(Of("ours", "s"), Of("chord into group", "s"), at_most(1)),
        Question(Of("ours", "s"), Of("chord by hand", "s")),
        Question(Of("ours", "rows per job"), Of("a quarter as many", "rows per job"), at_most(_LINEAR)),
        Question(Of("ours", "messages per job"), Of("a quarter as many", "messages per job"), at_most(_LINEAR)),
    ],
)
