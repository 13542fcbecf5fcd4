"""Batching tasks: one large job, broken into slices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from apps import called, counting, flows_app, messages, notes_of, rows, run_message, runtime_of, work
from celery import Celery

from celery_flows import Batch, BatchingTask, NotJson, Orchestration, Sequence, current_job, step


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


def noted(*words: Any) -> None:
    """Note what a slice did, with its app."""
    job = current_job()
    assert job is not None
    notes_of(job._claim.runtime.app).append(words)


class BottleBeer(BatchingTask):
    """The batching task of the documentation."""

    def split(self, bottles: int, size: int = 2) -> Iterator[list[int]]:
        for first in range(0, bottles, size):
            yield list(range(first, min(first + size, bottles)))

    def process(self, bottles: list[int]) -> None:
        if -1 in bottles:
            raise ValueError("broken glass")
        noted(*bottles)

    def on_complete(self, batch: Batch) -> None:
        noted("complete", batch.progress.total)

    def on_failure(self, batch: Batch) -> None:
        noted("failure", batch.failed_jobs[0].error_message)

    def on_settled(self, batch: Batch) -> None:
        noted("settled", batch.status)


@pytest.mark.parametrize("start", [BottleBeer.start, BottleBeer.delay])
def test_each_slice_is_a_job(app: Celery, start: Any) -> None:
    """Start splits here, delay in a worker; process is called once with each slice, then the handlers."""
    run = start(5)
    work(app)
    assert (run.status, run.kind) == ("complete", "batching")
    assert notes_of(app) == [(0, 1), (2, 3), (4,), ("complete", 3), ("settled", "complete")]
    assert [job.args for job in run.completed_jobs] == [[[0, 1]], [[2, 3]], [[4]]]


def test_no_slices(app: Celery) -> None:
    """Nothing to split is complete at once."""
    run = BottleBeer.delay(0)
    work(app)
    assert (run.status, notes_of(app)) == ("complete", [("complete", 0), ("settled", "complete")])


def test_a_slice_that_fails(app: Celery) -> None:
    """The others run all the same; on_failure is called, and retry runs that slice again."""

    class Broken(BottleBeer):
        broken: ClassVar[list[int]] = [1]

        def process(self, bottles: list[int]) -> None:
            super().process([-1] if self.broken and 2 in bottles else bottles)

    run = Broken.start(5)
    work(app)
    assert notes_of(app) == [(0, 1), (4,), ("failure", "broken glass"), ("settled", "failed")]
    Broken.broken.clear()
    run.retry()
    work(app)
    assert run.status == "complete"
    assert notes_of(app)[4:] == [(2, 3), ("complete", 3), ("settled", "complete")]


def test_tolerance_and_options_of_the_class(app: Celery) -> None:
    """tolerate, queue and process_options are said once, in the class."""

    class Tolerant(BottleBeer):
        tolerate = "50%"
        queue = "brewery"
        process_options: ClassVar[dict[str, Any]] = {"acks_late": True, "max_retries": 7}

        def process(self, bottles: list[int]) -> None:
            raise ValueError("broken")

    run = Tolerant.start(4)
    task = app.tasks[f"{Tolerant.__module__}.{Tolerant.__qualname__}.process"]
    assert (task.acks_late, task.max_retries) == (True, 7)
    first, second = messages(app, "brewery")
    run_message(app, first)
    assert run.status == "running"
    run_message(app, second)
    assert run.status == "failed"
    # Handlers are the class's own methods too.
    assert called(app) == []
    assert len(messages(app, "brewery")) == 2


def test_in_a_block_an_orchestration_and_a_sequence(app: Celery) -> None:
    """A batching task is one job of whatever it stands in, and is waited for."""

    class Order(Orchestration):
        def plan(self) -> None:
            self.run(BottleBeer, 2)
            self.run("shop.note", "shipped")

    class Steps(Sequence):
        bottle = step(BottleBeer.s(3, size=3))
        ship = step("shop.note")

    batch = Batch.create(app=app)
    with batch.jobs():
        BottleBeer.delay(1)
        BottleBeer.start(2, size=1)
    work(app)
    assert (batch.status, batch.progress.total, batch.total_progress.total) == ("complete", 2, 3)
    for flow, last in ((Order, ("shipped",)), (Steps, ())):
        run = flow.start()
        work(app)
        assert (run.status, notes_of(app)[-1], run.progress.total) == ("complete", last, 2)


def test_slices_are_enrolled_with_the_outcome_of_split(app: Celery) -> None:
    """A message of the planning that comes twice, or whose worker dies after its commit, splits once."""
    run = BottleBeer.delay(4)
    [message] = messages(app)
    run_message(app, message)
    run_message(app, message)
    assert len(rows(app, batch_id=run.id, kind="task")) == 2
    assert len(called(app)) == 2


def test_an_error_in_split_leaves_no_slice(app: Celery) -> None:
    """Started here it raises; in a worker the planning fails, and with it the flow."""

    class Careless(BottleBeer):
        def split(self, bottles: int, size: int = 2) -> Iterator[Any]:
            yield [1]
            yield object() if bottles else 1 / 0

    with pytest.raises(ZeroDivisionError):
        Careless.start(0)
    with pytest.raises(NotJson, match=r"Careless\.process"):
        Careless.start(1)
    assert (Batch.list(), called(app)) == ([], [])
    run = Careless.delay(0)
    work(app)
    assert (run.status, run.failed_jobs[0].error_class) == ("failed", "ZeroDivisionError")
    assert [row.kind for row in rows(app, batch_id=run.id)] == ["plan"]


def test_calls_that_split_makes_are_no_slices(app: Celery) -> None:
    """A task that the generator calls is published as ever."""

    class Calling(BottleBeer):
        def split(self, bottles: int, size: int = 2) -> Iterator[list[int]]:
            for part in super().split(bottles, size):
                app.tasks["shop.note"].delay("reading", *part)
                yield part

    run = Calling.start(4)
    assert run.progress.total == 2
    work(app)
    assert notes_of(app)[:2] == [("reading", 0, 1), ("reading", 2, 3)]


def test_slices_share_the_runs_data(app: Celery) -> None:
    """self.data is the run's, in split, process and handlers."""

    class Counted(BatchingTask):
        def split(self) -> Iterator[int]:
            self.data["split"] = True
            yield from range(3)

        def process(self, part: int) -> None:
            self.data["sum"] = self.data.get("sum", 0) + part

        def on_complete(self, batch: Batch) -> None:
            self.data["done"] = self.data["sum"]

    run = Counted.delay()
    work(app)
    assert dict(run.data) == {"done": 3, "split": True, "sum": 3}


def test_slices_are_streamed(file_url: str) -> None:
    """However many there are, they are kept in a file until their one transaction: memory stays flat."""

    class Many(BatchingTask):
        def split(self, number: int) -> Iterator[str]:
            for one in range(number):
                yield f"{one:0100}"

        def process(self, part: str) -> None:
            """Do nothing."""

    def peak(number: int) -> int:
        tracemalloc.start()
        try:
            with flows_app(file_url, chunk_size=100) as app:
                app.set_current()
                runtime_of(app).publisher.publish = lambda _: None  # type: ignore[method-assign]
                run = Many.start(number)
                assert run.progress.total == number
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    few = peak(500)
    assert peak(4000) < 1.5 * few + 200_000


def test_statements_do_not_grow_with_each_slice(app: Celery) -> None:
    """Slices are written in bulk."""
    seen = counting(runtime_of(app).database)
    runtime_of(app).publisher.publish = lambda _: None  # type: ignore[method-assign]
    BottleBeer.start(20)
    few = seen()
    BottleBeer.start(1000)
    assert seen() - few == few
