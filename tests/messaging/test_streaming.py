"""Streaming blocks: they commit and publish as they go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, flows_app, runtime_of, work
from celery import Celery

from celery_flows import Batch
from celery_flows.errors import BatchFinished, BlockMisuse
from celery_flows.messaging.sweep import sweep


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


def test_each_chunk_is_published(file_url: str) -> None:
    """A full chunk is enrolled and published at once; the open block keeps the batch unfinished."""
    with flows_app(file_url, chunk_size=3) as app:
        add, batch = app.tasks["shop.add"], Batch.create(app=app)
        with batch.jobs(streaming=True):
            for n in range(7):
                add.delay(n)
            assert batch.progress.total == 6
            work(app)
            assert state_of(batch) == ("running", 6, False)
        work(app)
        assert state_of(batch) == ("complete", 7, True)


def test_an_error_fails_the_batch(file_url: str) -> None:
    """If the block raises, what was enrolled runs, the rest is dropped, and the batch fails."""
    with flows_app(file_url, chunk_size=2) as app:
        batch = Batch.create(app=app, tolerate=5).on("failure", app.tasks["shop.note"].s())
        with pytest.raises(ValueError, match=r"feed"), batch.jobs(streaming=True):
            for n in range(3):
                app.tasks["shop.add"].delay(n)
            raise ValueError("feed")
        work(app)
        assert (batch.status, batch.settled_at is not None) == ("failed", True)
        assert [job.args for job in batch.completed_jobs] == [[0], [1]]
        (block,) = batch.failed_jobs
        assert (block.kind, block.error_class) == ("block", "EnrolmentAbandoned")
        assert "ValueError: feed" in str(block.error_message)
        assert app.flows_test_notes == [(batch.id,)]


def test_an_empty_one_completes(app: Celery) -> None:
    """A streaming block without calls completes its batch."""
    batch = Batch.create(app=app)
    with batch.jobs(streaming=True):
        pass
    assert state_of(batch) == ("complete", 0, True)


def test_children_of_a_stream(app: Celery, add: Any) -> None:
    """A child's block in a streaming one is published when it ends, whether it streams itself or not."""
    parent = Batch.create(app=app)
    with parent.jobs(streaming=True):
        for streaming in (False, True):
            child = Batch.create(app=app)
            with child.jobs(streaming=streaming):
                add.delay(streaming)
            assert called(app) == [("shop.add", streaming)]
            assert child.parent == parent
    assert state_of(parent) == ("running", 2, False)


def test_a_child_that_never_began_holds_up_no_batch_that_was_given_up(file_url: str) -> None:
    """Its row is written with its jobs: who fails or dies between the two leaves nothing to wait for."""
    with flows_app(file_url, chunk_size=1) as app:
        batch = Batch.create(app=app)
        with pytest.raises(ValueError, match=r"feed"), batch.jobs(streaming=True):
            child = Batch.create(app=app)
            app.tasks["shop.add"].delay(1)
            with child.jobs():
                app.tasks["shop.add"].delay(2)
                raise ValueError("feed")
        work(app)
        assert state_of(batch) == ("failed", 2, True)
        assert [job.kind for job in batch.failed_jobs] == ["block"]


def test_a_childs_jobs_that_are_refused_leave_the_stream_as_it_was(app: Celery, add: Any) -> None:
    """The program may go on: what it adds later is enrolled, and the child's row with it."""
    batch = Batch.create(app=app)
    with batch.jobs(streaming=True):
        child = Batch.create(app=app)
        with pytest.raises(BatchFinished), child.jobs():
            add.delay(1)
            child.cancel()
        add.delay(2)
    work(app)
    assert state_of(batch) == ("running", 2, False)
    # The child was finished before its parent knew of it.
    assert sweep(runtime_of(app)).batches == (child.id,)
    assert state_of(batch) == ("failed", 2, True)
    assert [job.args for job in batch.completed_jobs] == [[2]]


def test_where_it_can_not_stand(app: Celery) -> None:
    """A child can't stream inside its parent's ordinary block, nor a stream join a transaction."""
    with Batch.create(app=app).jobs():
        child = Batch.create(app=app)
        with pytest.raises(BlockMisuse, match=r"Make that one streaming too"), child.jobs(streaming=True):
            pytest.fail("the block must not be entered")
