"""Drain, of jobs that do something: they take 10 ms each."""

from __future__ import annotations

from benchmarks.case import Case, Of, Question, at_most
from benchmarks.cases.drain import as_batch, untracked

CASE = Case(
    name="drain-10ms",
    about="queued jobs that take 10 ms on a prefork worker of 2 processes, until the callback ran",
    n=2_000,
    sides={
        "ours": lambda world, n: as_batch(world, n, "nap"),
        "untracked": lambda world, n: untracked(world, world.plain, n, "nap"),
    },
    questions=[Question(Of("ours", "s"), Of("untracked", "s"), at_most(1.03), upper_under=1.08)],
)
