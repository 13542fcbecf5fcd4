"""Latency: from the end of a batch's last job to the beginning of its callback, on a worker that idles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median, quantiles
from typing import Any, Final

from celery import chord

from benchmarks.case import Case, Figures, Of, Question, at_most
from benchmarks.services import World
from benchmarks.workers import consuming, start_workers, wait_until
from celery_flows import Batch

#: Jobs of a batch.
_JOBS: Final = 3


def batches(world: World, n: int) -> Figures:
    """Batches with a callback."""
    world.clear()
    job, callback = world.task(world.ours, "ends"), world.task(world.ours, "begins")

    def publish() -> None:
        batch = Batch.create(app=world.ours)
        batch.on("complete", callback)
        with batch.jobs():
            for number in range(_JOBS):
                job.delay(number)

    return _latencies(world, world.ours, n, publish)


def chords(world: World, n: int) -> Figures:
    """Chords, their results in Redis."""
    member, body = world.task(world.plain, "kept.ends"), world.task(world.plain, "begins")
    return _latencies(world, world.plain, n, lambda: chord(member.s(number) for number in range(_JOBS))(body.s()))


def hops(world: World, n: int) -> Figures:
    """A task that calls another as the last thing that it does: no less is possible through the broker."""
    return _latencies(world, world.plain, n, world.task(world.plain, "hops").delay)


def _latencies(world: World, app: Any, n: int, publish: Callable[[], object]) -> Figures:
    start_workers(world)
    with consuming(world, app):
        found = [_latency(world, publish) for _ in range(n)]
    return {"median ms": median(found), "p99 ms": quantiles(found, n=100)[-1] if len(found) > 1 else found[0]}


def _latency(world: World, publish: Callable[[], object]) -> float:
    world.notes.write_text("")
    publish()
    wait_until(partial(_has_begun, world))
    times: dict[str, list[int]] = {"ended": [], "began": []}
    for line in world.notes.read_text().splitlines():
        word, moment = line.split()
        times[word].append(int(moment))
    return (times["began"][0] - max(times["ended"])) / 1e6


def _has_begun(world: World) -> bool:
    said = world.notes.read_text()
    return "began" in said and said.endswith("\n")


CASE = Case(
    name="latency",
    about=f"batches of {_JOBS} jobs on an idle worker, from the last job's end to the callback's beginning",
    n=200,
    sides={"ours": batches, "chord": chords, "bare delay": hops},
    questions=[
        Question(Of("ours", "median ms"), Of("chord", "median ms"), at_most(1.5)),
        Question(Of("ours", "median ms"), Of("bare delay", "median ms")),
        Question(Of("ours", "p99 ms"), Of("ours", "median ms"), at_most(10)),
        Question(Of("chord", "p99 ms"), Of("chord", "median ms")),
    ],
)
