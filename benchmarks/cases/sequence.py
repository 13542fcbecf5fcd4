"""Sequence: steps one after another, many runs side by side."""

from __future__ import annotations

from celery import chain

from benchmarks.case import Case, Figures, at_most, beside
from benchmarks.services import World
from benchmarks.workers import counted
from celery_flows import Sequence, step


class Ten(Sequence):
    """Ten steps, of which the last is counted."""

    first = step("bench.nothing")
    second = step("bench.nothing")
    third = step("bench.nothing")
    fourth = step("bench.nothing")
    fifth = step("bench.nothing")
    sixth = step("bench.nothing")
    seventh = step("bench.nothing")
    eighth = step("bench.nothing")
    ninth = step("bench.nothing")
    tenth = step("bench.tick")


def sequences(world: World, n: int) -> Figures:
    """Started one by one, while the worker runs them."""
    world.clear()

    def start() -> None:
        for _ in range(n):
            Ten.using(app=world.ours).start()

    return {"s": counted(world, world.ours, n, start)}


def chains(world: World, n: int) -> Figures:
    """Celery's chains of the same tasks."""
    step_, last = world.task(world.plain, "nothing"), world.task(world.plain, "tick")

    def start() -> None:
        for _ in range(n):
            chain(*(step_.si() for _ in range(len(Ten.steps) - 1)), last.si()).apply_async()

    return {"s": counted(world, world.plain, n, start)}


CASE = Case(
    name="sequence",
    about="sequences of 10 steps, from the first start to the last step",
    n=1_000,
    sides={"ours": sequences, "chains": chains},
    questions=beside("s", chains=at_most(1.5)),
)
