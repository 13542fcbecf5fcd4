"""Flows of each kind, whose jobs note when they begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from acceptance.making import seen, task
from celery import signature

from celery_flows import Batch, BatchingTask, Orchestration, Sequence, Workflow, current_job, step


def noted(word: str) -> str:
    """Note a job: its id, what it is called, and when its body began and ended, on the machine's own clock."""
    job = current_job()
    assert job is not None
    began = time.monotonic_ns()
    seen("ran", job.id, word, began, time.monotonic_ns())
    return word


@task("flow")
def mark(word: str) -> str:
    """Note it."""
    return noted(word)


@task("flow")
def break_once(word: str) -> str:
    """Fail at the first attempt of all."""
    job = current_job()
    assert job is not None
    if job.attempt == 1:
        raise ValueError("broken on purpose")
    return noted(word)


@task("flow")
def grow(word: str) -> None:
    """Add three jobs, which what comes after waits for."""
    job = current_job()
    assert job is not None
    with job.batch.jobs():
        for part in range(2):
            job._claim.runtime.app.tasks["flow.mark"].delay(f"{word} {part}")
    job.add("flow.mark", f"{word} 2")
    noted(word)


@task("flow")
def sum_up(*names: str) -> None:
    """Read results of others."""
    job = current_job()
    assert job is not None
    noted("+".join(job.results[name] for name in names))


class Steps(Sequence):
    """Steps of each sort, one of which is tried again."""

    create = step(signature("flow.mark", ("create",)))

    @step(retries=1)
    def count(self) -> None:
        """Change the data at each attempt: only the last one's change stays."""
        self.data["count"] = self.data.get("count", 0) + 1
        job = current_job()
        assert job is not None
        if job.attempt == 1:
            raise ValueError("not yet")
        noted("count")

    @step
    def last(self) -> None:
        """Note it."""
        noted("last")

    def on_complete(self, batch: Batch) -> None:
        """Change the data once more."""
        self.data["done"] = batch.status


class Slices(BatchingTask):
    """A few slices."""

    def split(self, number: int) -> Iterator[int]:
        """Give numbers."""
        yield from range(number)

    def process(self, part: int) -> None:
        """Note it."""
        noted(f"slice {part}")


class Graph(Workflow):
    """A diamond with a wide join, results and a branch that is not needed."""

    def plan(self, width: int) -> None:
        """Say what is run."""
        top = self.run("flow.mark", "top", name="top")
        sides = [self.run("flow.mark", f"side {one}", after=top, name=f"side {one}") for one in range(width)]
        low = [self.run("flow.sum_up", "side 0", "side 1", after=sides) for _ in range(3)]
        self.run("flow.mark", "not needed", after=low, when="failure")
        self.run("flow.mark", "end", after=low)


class Whole(Orchestration):
    """Everything in one another."""

    def plan(self, depth: int, *, breaks: bool = False) -> None:
        """Say what is run; the deepest level may break."""
        self.run("flow.mark", f"setup {depth}")
        with self.in_parallel():
            self.run("flow.grow", f"grow {depth}")
            self.run(Slices, 3)
            with self.in_series():
                self.run("flow.mark", f"a {depth}")
                self.run("flow.break_once" if breaks and not depth else "flow.mark", f"b {depth}")
        if depth:
            self.run(Whole.s(depth - 1, breaks=breaks))
        self.run(Graph, 3)
        self.run("flow.mark", f"end {depth}")
