"""Results of calls in blocks: who waits for one is answered, whatever becomes of the job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import flows_app, messages, rows, runtime_of, work
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError, TimeoutError  # noqa: A004  # Celery's own is tested

from celery_flows import Batch
from celery_flows.transitions.claim import claim
from celery_flows.transitions.lose import LossPolicy, lose


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app with a result backend in memory."""
    with flows_app(file_url) as app:
        app.conf.result_backend = "cache+memory://"
        # Celery before 5.7 takes a chain that begins with a chord for the current app's.
        app.set_current()
        yield app


def enrolled(app: Celery, canvas: Any) -> tuple[Batch, Any]:
    """Call it in a block; the batch, and the result that the call gave."""
    with (batch := Batch.create(app=app)).jobs():
        return batch, canvas.apply_async()


def test_one_that_was_skipped(app: Celery) -> None:
    """It raises what went wrong before it, as in Celery; without its parents, and in a group, too."""
    add, fail, total = (app.tasks[f"shop.{name}"] for name in ("add", "fail", "total"))
    for canvas in (
        chain(fail.si(), add.si(1), add.s(2)),
        chord([add.s(1), fail.si()], total.s()),
        chain(chord([add.s(1), fail.si()], total.s()), add.s(1)),
    ):
        _, result = enrolled(app, canvas)
        work(app)
        with pytest.raises(ValueError, match="no"):
            result.get(timeout=20)
        for propagate in (True, False):
            with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('no'\)"):
                found = result.get(timeout=20, follow_parents=False, propagate=propagate)
                raise found
    _, several = enrolled(app, group(chain(fail.si(), add.si(1)), chain(add.si(1), add.s(2))))
    work(app)
    with pytest.raises(ValueError, match="no"):
        several.get(timeout=20)
    assert several.results[1].get(timeout=20) == 3


def test_one_that_was_cancelled(app: Celery) -> None:
    """It raises as Celery's own does that was revoked."""
    batch, result = enrolled(app, app.tasks["shop.add"].s(1))
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)
    batch.cancel()
    for timeout in (None, 0.01):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=timeout)
    work(app)


def test_one_whose_worker_died(app: Celery) -> None:
    """Nobody tells the backend; the row does."""
    _, result = enrolled(app, app.tasks["shop.add"].s(1))
    messages(app)
    database, [row] = runtime_of(app).database, rows(app)
    assert claim(database, row.id, row.delivery, "token") is not None
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)
    lose(database, row.id, "token", LossPolicy("fail", 3), "it was stopped")
    with pytest.raises(Exception, match="it was stopped") as lost:
        result.get(timeout=20)
    assert type(lost.value).__name__ == "WorkerLost"


def test_one_that_raised_a_timeout_itself(app: Celery) -> None:
    """It is the job's own error, and comes at once."""

    @app.task(name="shop.late", shared=False)
    def late() -> None:
        raise TimeoutError("too late")

    _, result = enrolled(app, late.s())
    work(app)
    with pytest.raises(TimeoutError, match="too late"):
        result.get()


def test_one_that_is_complete(app: Celery) -> None:
    """It gives what the job returned, as ever."""
    batch, result = enrolled(app, group(app.tasks["shop.add"].s(1, one) for one in range(3)))
    work(app)
    assert batch.status == "complete"
    assert result.get(timeout=20) == [1, 2, 3]
