"""Million: a batch so large that whatever grows with it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

from sqlalchemy import select

from benchmarks.case import Case, Figures, Of, Question, at_most
from benchmarks.crowd import Act, crowd
from benchmarks.memory import growth
from benchmarks.rows import TOKEN, Running
from benchmarks.services import World, purge
from celery_flows import Batch
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.claim import claim
from celery_flows.transitions.settle import settle

#: Connections that claim and settle.
_CONNECTIONS: Final = 4
_PARTS: Final = 10
#: How often a question is asked; its time is the median.
_LOOKS: Final = 5
_PAGE: Final = 100


def life(world: World, n: int) -> Figures:
    """Enroll and publish, then claim and settle in ten parts, and look at it when half is done."""
    world.clear()
    batch = Batch.create(app=world.ours)
    grown: list[float] = []
    published = _seconds(lambda: grown.append(growth(lambda: _enroll(world, batch, n))))
    purge(world.ours)
    costs: list[float] = []
    looks: Figures = {}
    for part, jobs in enumerate(_parts(world.database, batch.id, n)):
        if part == _PARTS // 2:
            looks = _look(world, batch)
        costs.append(1e6 * crowd(world, _CONNECTIONS, jobs, _working) / len(jobs))
    assert batch.status == "complete"
    settled = {"us per settle": sum(costs) / _PARTS, "first tenth": costs[0], "last tenth": costs[-1]}
    return {"us per publish": 1e6 * published / n, "MiB at the peak": grown[0], **settled, **looks}


def _enroll(world: World, batch: Batch, n: int) -> None:
    job = world.task(world.ours, "nothing")
    with batch.jobs():
        for number in range(n):
            job.delay(number)


def _parts(database: Database, batch_id: str, n: int) -> Iterator[list[Running]]:
    jobs, after, done = database.tables.jobs, "", 0
    for part in range(1, _PARTS + 1):
        statement = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.id > after).order_by(jobs.c.id)
        with database.reading() as connection:
            ids = list(connection.scalars(statement.limit(part * n // _PARTS - done)))
        yield [Running(one, batch_id) for one in ids]
        after, done = ids[-1], done + len(ids)


def _working(database: Database) -> Act:
    def act(job: Running) -> None:
        claim(database, job.id, 1, TOKEN)
        settle(database, Ending(job.id, JobState.COMPLETE, delivery=1, token=TOKEN), batch_id=job.batch_id)

    return act


def _look(world: World, batch: Batch) -> Figures:
    half = len(batch.completed_jobs) // 2
    pages: list[Callable[[], object]] = [
        lambda: batch.pending_jobs[:_PAGE],
        lambda: batch.completed_jobs[:_PAGE],
        lambda: Batch.list(limit=_PAGE, app=world.ours),
    ]
    return {
        "ms of progress": _median_ms(lambda: batch.progress),
        "ms of a page": max(map(_median_ms, pages)),
        "ms of a page in the middle": _median_ms(lambda: batch.completed_jobs[half : half + _PAGE]),
    }


def _median_ms(look: Callable[[], object]) -> float:
    return 1e3 * median(_seconds(look) for _ in range(_LOOKS))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


CASE = Case(
    name="million",
    about="one large batch: enrolled, published, then claimed and settled by direct calls",
    n=1_000_000,
    sides={
        # The small one first: it is the warm-up.
        "a hundredth": lambda world, n: life(world, max(_PARTS, n // 100)),
        "ours": lambda world, n: life(world, max(_PARTS, n)),
    },
    questions=[
        Question(Of("ours", "MiB at the peak"), target=at_most(64)),
        Question(Of("ours", "us per publish"), Of("a hundredth", "us per publish"), at_most(1.2)),
        Question(Of("ours", "us per settle"), Of("a hundredth", "us per settle"), at_most(1.2)),
        Question(Of("ours", "last tenth"), Of("ours", "first tenth"), at_most(1.2)),
        Question(Of("ours", "ms of progress"), target=at_most(100)),
        Question(Of("ours", "ms of a page"), target=at_most(20)),
        Question(Of("ours", "ms of a page in the middle")),
    ],
    most_repetitions=1,
    warms_up=False,
)
