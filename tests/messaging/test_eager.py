"""Eager apps: a block's jobs run when it ends, here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from apps import flows_app, notes_of, rows
from celery import Celery, chain, chord, group

from celery_flows import Batch, current_job
from celery_flows.errors import ResultNotReady


@pytest.fixture(params=[False, True], ids=["quiet", "propagating"])
def app(file_url: str, request: pytest.FixtureRequest) -> Iterator[Celery]:
    """An eager app with a few tasks, whose errors propagate or not."""
    with flows_app(file_url, chunk_size=2) as app:
        app.conf.task_always_eager = True
        app.conf.task_eager_propagates = request.param
        yield app


@pytest.fixture
def add(app: Celery) -> Any:
    """A task."""
    return app.tasks["shop.add"]


def watched(app: Celery, **options: Any) -> Batch:
    """A batch that notes each of its events."""
    batch, note = Batch.create(app=app, **options), app.tasks["shop.note"]
    return (
        batch.on("complete", note.s("complete")).on("failure", note.s("failure")).on("settled", note.s("settled"))
    )


def propagated(app: Celery, problem: str) -> AbstractContextManager[Any]:
    """Expect a job's error where errors propagate, and none elsewhere."""
    return pytest.raises(ValueError, match=f"^{problem}$") if app.conf.task_eager_propagates else nullcontext()


def test_a_block_runs_at_its_end(app: Celery, add: Any) -> None:
    """Nothing runs inside the block; after it all jobs and callbacks have run, and results can be read."""
    batch = watched(app)
    with batch.jobs():
        one, some = add.delay(1, 2), group(add.s(1), add.s(2))()
        assert rows(app, batch_id=batch.id) == []
        with pytest.raises(ResultNotReady):
            one.get()
    assert (one.get(), one.result, one.state, one.ready(), one.successful()) == (3, 3, "SUCCESS", True, True)
    assert some.get() == [1, 2]
    assert (batch.status, batch.progress.complete) == ("complete", 3)
    assert notes_of(app) == [(batch.id, "complete"), (batch.id, "settled")]


def test_failures(app: Celery, add: Any) -> None:
    """A failed job fails its batch, the others run all the same, and its result tells the error.

    With task_eager_propagates the block raises the first error, when all have run.
    """
    batch, results = watched(app), []
    problem = None
    try:
        with batch.jobs():
            results += [
                app.tasks["shop.fail"].delay("first"),
                app.tasks["shop.fail"].delay("second"),
                add.delay(1),
            ]
    except ValueError as error:
        problem = str(error)
    assert problem == ("first" if app.conf.task_eager_propagates else None)
    assert dict(batch.progress) == {"total": 3, "complete": 1, "failed": 2, "cancelled": 0, "pending": 0}
    assert sorted(notes_of(app)) == [(batch.id, "failure"), (batch.id, "settled")]
    assert [result.state for result in results] == ["FAILURE", "FAILURE", "SUCCESS"]
    with pytest.raises(ValueError, match=r"first"):
        results[0].get()


def test_a_failing_callback(app: Celery) -> None:
    """A callback that fails does not touch the batch; with task_eager_propagates the block raises its error."""
    batch = Batch.create(app=app).on("complete", app.tasks["shop.fail"].si("callback"))
    with propagated(app, "callback"), batch.jobs():
        pass
    assert batch.status == "complete"


def test_retries(app: Celery) -> None:
    """A job that retries runs again at once, and its attempts are counted; in the end it may still fail."""

    @app.task(bind=True, max_retries=5, shared=False)
    def flaky(self: Any) -> int:
        if self.job.attempt < 3:
            raise self.retry(countdown=60)
        return int(self.job.attempt)

    @app.task(autoretry_for=(ValueError,), max_retries=2, shared=False)
    def hopeless() -> None:
        raise ValueError("still no")

    batch, results = Batch.create(app=app), []
    with propagated(app, "still no"), batch.jobs():
        results += [flaky.delay(), hopeless.delay()]
    assert [(row.state, row.attempt, row.error_class) for row in rows(app, batch_id=batch.id)] == [
        ("complete", 3, None),
        ("failed", 3, "ValueError"),
    ]
    assert (results[0].get(), results[1].state) == (3, "FAILURE")


def test_nested_batches(app: Celery, add: Any) -> None:
    """Children made in the block, and jobs that a job adds, run too."""

    @app.task(shared=False)
    def grow() -> None:
        job = current_job()
        assert job is not None
        with job.batch.jobs():
            add.delay(1)
        with Batch.create(parent=job.batch).jobs():
            add.delay(2)

    parent = watched(app)
    with parent.jobs():
        grow.delay()
        child = watched(app)
        with child.jobs():
            add.delay(3)
    assert (parent.status, parent.progress.total, child.status) == ("complete", 4, "complete")
    assert notes_of(app).count((parent.id, "complete")) == notes_of(app).count((child.id, "complete")) == 1


def test_streaming(app: Celery, add: Any) -> None:
    """A streaming block's jobs run a chunk at a time; what they call is not the block's."""
    seen = []

    @app.task(shared=False)
    def call() -> None:
        seen.append(add.delay(1, 2).get(disable_sync_subtasks=False))

    batch = watched(app)
    with batch.jobs(streaming=True):
        for _ in range(3):
            call.delay()
    assert (seen, batch.progress.complete, batch.progress.total) == ([3, 3, 3], 3, 3)
    assert (batch.id, "complete") in notes_of(app)


def test_what_runs_at_once_does_so(app: Celery, add: Any) -> None:
    """apply() in a block runs on the spot, as do calls of other threads and calls outside of blocks."""
    batch, seen = Batch.create(app=app), []
    with batch.jobs():
        seen.append(add.apply((1, 2)).get())
        thread = threading.Thread(target=lambda: seen.append(add.delay(3, 4).get()))
        thread.start()
        thread.join()
    seen.append(add.delay(5, 6).get())
    assert (seen, batch.progress.total) == ([3, 7, 11], 0)


def test_a_canvas_runs_at_the_end(app: Celery, add: Any) -> None:
    """Chains and chords run when the block ends, each task after those it waits for, and results can be read."""
    batch, total = Batch.create(app=app), app.tasks["shop.total"]
    with batch.jobs():
        one = chain(add.s(1, 2), add.s(3))()
        all_of_them = chord([add.s(1), add.s(2)], total.s())()
        assert notes_of(app) == []
    assert (one.get(), one.parent.get(), all_of_them.get(), all_of_them.parent.get()) == (6, 3, 3, [1, 2])
    assert (batch.status, batch.progress.complete) == ("complete", 5)


def test_an_unregistered_task_fails(app: Celery) -> None:
    """A call by a name that nobody has fails as a job, and the batch with it."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.send_task("nobody.has")
    assert [job.error_class for job in batch.failed_jobs] == ["NotRegistered"]
    assert batch.status == "failed"


def test_switching_it_off_again(app: Celery, add: Any) -> None:
    """Eagerness is asked for at each block, so that one test's setting does not stay for the next."""
    with Batch.create(app=app).jobs():
        pass
    app.conf.task_always_eager = False
    batch = Batch.create(app=app)
    with batch.jobs():
        add.delay(1)
    assert (batch.status, batch.progress.pending) == ("running", 1)
    app.conf.task_always_eager = True
    assert add.delay(1, 1).get() == 2
