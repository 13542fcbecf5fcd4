"""The block: what it collects, when it is enrolled, and how blocks stand in one another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, flows_app, messages, rows, run_message, runtime_of, work
from celery import Celery, group

from celery_flows import Batch, BatchFinished, BatchNotFound, current_job
from celery_flows.errors import ResultNotReady
from celery_flows.ids import new_id


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app with Flows and a few tasks."""
    with flows_app(file_url) as app:
        yield app


@pytest.fixture
def add(app: Celery) -> Any:
    """A task."""
    return app.tasks["shop.add"]


def state_of(batch: Batch) -> tuple[str, int, bool]:
    """Status, jobs known, and whether it is finished."""
    return batch.status, batch.progress.total, batch.settled_at is not None


def test_rows_come_before_messages(app: Celery, add: Any) -> None:
    """Inside the block there is neither row nor message; after it every message has its row."""
    batch = Batch.create(app=app)
    with batch.jobs():
        add.delay(1)
        add.delay(2)
        assert (rows(app), messages(app)) == ([], [])
    assert [row.state for row in rows(app, batch_id=batch.id)] == ["queued", "queued"]
    assert called(app) == [("shop.add", 1), ("shop.add", 2)]
    assert state_of(batch) == ("running", 2, False)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_block_that_raises_enrolls_nothing(app: Celery, add: Any, error: type[BaseException]) -> None:
    """Whatever leaves the block by an error leaves no row and no message, and the batch can be tried again."""
    batch = Batch.create(app=app)
    with pytest.raises(error), batch.jobs():
        add.delay(1)
        raise error
    assert (rows(app), messages(app), state_of(batch)) == ([], [], ("pending", 0, False))
    with batch.jobs():
        add.delay(2)
    assert called(app) == [("shop.add", 2)]


def test_an_empty_block_completes_at_once(app: Celery) -> None:
    """A batch whose first block has no jobs is complete and finished, and its callbacks fire."""
    batch = Batch.create(app=app).on("complete", app.tasks["shop.note"].s("complete"))
    batch.on("settled", app.tasks["shop.note"].s("settled")).on("failure", app.tasks["shop.note"].s("failure"))
    with batch.jobs():
        pass
    assert state_of(batch) == ("complete", 0, True)
    assert batch.progress.percent == 100
    work(app)
    assert sorted(app.flows_test_notes) == [(batch.id, "complete"), (batch.id, "settled")]


def test_reopening_with_nothing_changes_nothing(app: Celery, add: Any) -> None:
    """A running batch grows by another block; one without jobs neither adds nor ends anything."""
    batch = Batch.create(app=app)
    for n in (1, 0, 1):
        with batch.jobs():
            for _ in range(n):
                add.delay(1)
        assert batch.status == "running"
    assert state_of(batch) == ("running", 2, False)
    work(app)
    assert state_of(batch) == ("complete", 2, True)


def test_a_job_grows_its_own_batch(app: Celery, add: Any) -> None:
    """A job adds to its batch, by current_job() or by its id, and the batch waits for what was added."""
    batch = Batch.create(app=app)

    @app.task(shared=False)
    def grow(batch_id: str) -> None:
        job = current_job()
        assert job is not None
        for one in (job.batch, Batch.get(batch_id)):
            with one.jobs():
                add.delay(1)

    with batch.jobs():
        grow.delay(batch.id)
    (message,) = messages(app)
    run_message(app, message)
    assert state_of(batch) == ("running", 3, False)
    work(app)
    assert state_of(batch) == ("complete", 3, True)


def test_a_finished_batch_takes_no_jobs(app: Celery, add: Any) -> None:
    """On a finished batch the block is refused when it is opened; nothing is published."""
    batch = Batch.create(app=app)
    with batch.jobs():
        pass
    with pytest.raises(BatchFinished, match=r"is finished \(complete\)") as caught, batch.jobs():
        pytest.fail("the block must not be entered")
    assert caught.value.batch_id == batch.id
    assert messages(app) == []


def test_a_batch_that_finishes_meanwhile_takes_no_jobs(app: Celery, add: Any) -> None:
    """On a batch that finishes while its block is open, the block's end is refused; nothing is published."""
    batch = Batch.create(app=app)
    with batch.jobs():
        add.delay(1)
    with pytest.raises(BatchFinished), batch.jobs():
        work(app)
        assert batch.settled_at is not None
        add.delay(2)
    assert (batch.progress.total, messages(app)) == (1, [])


def test_a_batch_that_does_not_exist(app: Celery) -> None:
    """A block of a batch that is gone is refused."""
    with pytest.raises(BatchNotFound), Batch(new_id(), runtime_of(app)).jobs():
        pytest.fail("the block must not be entered")


class TestResults:
    """What a call in a block gives back."""

    def test_waiting_inside_the_block_raises(self, app: Celery, add: Any) -> None:
        """get, wait and a group's get and join raise while the block is open, rather than wait without end."""
        app.conf.result_backend = "cache+memory://"
        with Batch.create(app=app).jobs():
            one, some = add.delay(1), group(add.s(1), add.s(2))()
            for wait in (one.get, one.wait, some.get, some.join):
                with pytest.raises(ResultNotReady, match=r"its block is still open"):
                    wait(timeout=1)

    def test_of_a_child_inside_the_parents_block(self, app: Celery, add: Any) -> None:
        """A call in a child's block is held until the parent's block has ended."""
        with Batch.create(app=app).jobs():
            with Batch.create(app=app).jobs():
                result = add.delay(1)
            with pytest.raises(ResultNotReady):
                result.get(timeout=1)

    def test_of_a_block_that_raised(self, app: Celery, add: Any) -> None:
        """A call whose block was left by an error will never have a result, and says so."""
        results = []
        with pytest.raises(ValueError, match=r"no"), Batch.create(app=app).jobs():
            results.append(add.delay(1))
            raise ValueError("no")
        with pytest.raises(ResultNotReady, match=r"was left by an error"):
            results[0].get(timeout=1)

    def test_waiting_after_the_block(self, app: Celery, add: Any) -> None:
        """After the block a result, or a group's, is Celery's own."""
        app.conf.result_backend = "cache+memory://"
        with Batch.create(app=app).jobs():
            one, some = add.delay(1, 2), group(add.s(1), add.s(2))()
        work(app)
        assert (one.get(timeout=10), some.get(timeout=10)) == (3, [1, 2])
        assert (one.state, one.wait(timeout=1)) == ("SUCCESS", 3)

    def test_of_other_tasks(self, app: Celery, add: Any) -> None:
        """A result of a call made elsewhere can be waited for inside a block."""
        app.conf.result_backend = "cache+memory://"
        other = add.delay(1, 2)
        work(app)
        with Batch.create(app=app).jobs():
            assert add.AsyncResult(other.id).get(timeout=10) == other.get(timeout=10) == 3


class TestNesting:
    """Blocks in blocks, and batches in batches."""

    def test_a_child_made_in_the_block(self, app: Celery, add: Any) -> None:
        """A batch made in another's block is its child; one row stands for it; it ends before its parent."""
        parent = Batch.create(app=app)
        with parent.jobs():
            child = Batch.create(app=app)
            with child.jobs():
                add.delay(1)
            assert messages(app) == []
        assert (child.parent, Batch.get(child.id, app=app).parent) == (parent, parent)
        assert [(row.kind, row.id) for row in rows(app, batch_id=parent.id)] == [("batch", child.id)]
        assert (state_of(parent), state_of(child)) == (("running", 1, False), ("running", 1, False))
        work(app)
        assert (state_of(parent), state_of(child)) == (("complete", 1, True), ("complete", 1, True))

    def test_parent_by_name(self, app: Celery, add: Any) -> None:
        """parent= makes a child outside of any block, and inside the parent's block it is the same as without."""
        parent = Batch.create(app=app)
        with parent.jobs():
            add.delay(1)
            inner = Batch.create(parent=parent)
            with inner.jobs():
                add.delay(2)
            assert (messages(app), rows(app)) == ([], [])
        outer = Batch.create(parent=parent)
        with outer.jobs():
            add.delay(3)
        assert state_of(parent) == ("running", 3, False)
        work(app)
        assert [state_of(one) for one in (parent, inner, outer)] == [
            ("complete", 3, True),
            ("complete", 1, True),
            ("complete", 1, True),
        ]
        with pytest.raises(BatchFinished):
            Batch.create(parent=parent)

    def test_three_deep(self, app: Celery, add: Any) -> None:
        """Children of children are written with the outermost block; a failure counts all the way up at once."""
        top = Batch.create(app=app).on("failure", app.tasks["shop.note"].s())
        with top.jobs():
            middle = Batch.create(app=app)
            with middle.jobs():
                bottom = Batch.create(app=app)
                with bottom.jobs():
                    app.tasks["shop.fail"].delay()
                    add.apply_async((1,), queue="later")
        work(app)
        assert [state_of(one) for one in (top, middle, bottom)] == [
            ("failed", 1, False),
            ("failed", 1, False),
            ("failed", 2, False),
        ]
        assert app.flows_test_notes == [(top.id,)]

    def test_an_outer_error_takes_all_with_it(self, app: Celery, add: Any) -> None:
        """If the outer block raises, nothing of the inner ones is enrolled."""
        parent = Batch.create(app=app)
        with pytest.raises(ValueError, match=r"no"), parent.jobs():
            child = Batch.create(app=app)
            with child.jobs():
                add.delay(1)
            raise ValueError("no")
        assert (rows(app), messages(app)) == ([], [])
        assert (state_of(parent), state_of(child)) == (("pending", 0, False), ("pending", 0, False))

    def test_an_inner_error_that_is_caught(self, app: Celery, add: Any) -> None:
        """If an inner block's error is caught, the outer one goes on without the inner one's calls."""
        parent = Batch.create(app=app)
        with parent.jobs():
            child = Batch.create(app=app)
            with pytest.raises(ValueError, match=r"no"), child.jobs():
                add.delay("never")
                raise ValueError("no")
            with child.jobs():
                add.delay("again")
            add.delay("outer")
        assert sorted(called(app)) == [("shop.add", "again"), ("shop.add", "outer")]

    def test_a_block_of_an_unrelated_batch(self, app: Celery, add: Any) -> None:
        """A block of another batch inside ends by itself; calls after it belong to the outer one again."""
        outer, other = Batch.create(app=app), Batch.create(app=app)
        with outer.jobs():
            add.delay(1)
            with other.jobs():
                add.delay(2)
            assert called(app) == [("shop.add", 2)]
            add.delay(3)
        assert (outer.progress.total, other.progress.total) == (2, 1)
        assert called(app) == [("shop.add", 1), ("shop.add", 3)]

    def test_a_child_is_found_through_an_unrelated_block(self, app: Celery, add: Any) -> None:
        """A child whose block is opened inside an unrelated one is still written with its parent's block."""
        parent, other = Batch.create(app=app), Batch.create(app=app)
        with parent.jobs():
            child = Batch.create(app=app)
            with other.jobs(), child.jobs():
                add.delay(1)
            assert messages(app) == []
        assert called(app) == [("shop.add", 1)]
        assert child.parent == parent

    def test_a_batchs_own_block_inside_its_block(self, app: Celery, add: Any) -> None:
        """A batch's block inside its own ends with the outer one, so that the batch can't finish between."""
        batch = Batch.create(app=app)
        with batch.jobs():
            with batch.jobs():
                add.delay(1)
            assert messages(app) == []
            add.delay(2)
        assert state_of(batch) == ("running", 2, False)
        assert len(messages(app)) == 2

    def test_an_empty_child(self, app: Celery) -> None:
        """A child without jobs is complete at once, and so is a parent that has nothing else."""
        parent = Batch.create(app=app)
        with parent.jobs(), Batch.create(app=app).jobs():
            pass
        assert state_of(parent) == ("complete", 1, True)


class TestContext:
    """Only calls made in the block's own context belong to it."""

    def test_another_thread(self, app: Celery, add: Any) -> None:
        """A call from another thread is Celery's own, whether the thread has the block's context or not."""
        import contextvars

        batch = Batch.create(app=app)
        with batch.jobs():
            for run in (lambda call: call(), contextvars.copy_context().run):
                thread = threading.Thread(target=run, args=(lambda: add.delay("thread"),))
                thread.start()
                thread.join()
            asyncio.run(self._to_thread(add))
            assert called(app) == [("shop.add", "thread")] * 2 + [("shop.add", "to_thread")]
        assert state_of(batch) == ("complete", 0, True)

    @staticmethod
    async def _to_thread(add: Any) -> None:
        await asyncio.to_thread(add.delay, "to_thread")

    def test_async_tasks(self, app: Celery, add: Any) -> None:
        """What an asyncio task calls while the block is open belongs to it; after that it is Celery's own."""
        batch = Batch.create(app=app)

        async def calls(has_ended: asyncio.Event) -> None:
            add.delay("inside")
            await has_ended.wait()
            add.delay("outlived")

        async def main() -> None:
            has_ended = asyncio.Event()
            with batch.jobs():
                task = asyncio.create_task(calls(has_ended))
                await asyncio.sleep(0)
            has_ended.set()
            await task

        asyncio.run(main())
        assert called(app) == [("shop.add", "inside"), ("shop.add", "outlived")]
        assert batch.progress.total == 1

    def test_two_threads_two_blocks(self, app: Celery, add: Any) -> None:
        """Blocks open in two threads at once each get their own thread's calls."""
        first, second = Batch.create(app=app), Batch.create(app=app)
        barrier = threading.Barrier(2, timeout=30)

        def fill(batch: Batch, count: int) -> None:
            with batch.jobs():
                barrier.wait()
                for _ in range(count):
                    add.delay(count)
                barrier.wait()

        threads = [threading.Thread(target=fill, args=pair) for pair in ((first, 2), (second, 5))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (first.progress.total, second.progress.total) == (2, 5)
