"""The data that the steps of a sequence share: committed with each step's outcome."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import flows_app, messages, run_message, work
from celery import Celery

from celery_flows import Batch, Orchestration, Sequence, current_job, step
from celery_flows.errors import NotStorable


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


class Steered(Sequence):
    """Does what the run's data says."""

    first = step("shop.note")

    @step
    def second(self) -> None:
        self.data["seen"] = self.data.get("seen", 0) + 1
        if self.data.get("fails"):
            raise ValueError("told to")


def work_off(app: Celery, run: Any) -> None:
    """Run what is due, and see that the run is complete."""
    work(app)
    assert run.status == "complete", run.explain()


def test_any_name_will_do(app: Celery) -> None:
    """Data may be called as arguments of ours are."""
    names = dict.fromkeys(("self", "cls", "task", "flow", "block", "target", "args", "kwargs", "name"), 1)
    for start in (Steered.start, Steered.delay):
        work_off(app, run := start(**names))
        assert names.items() <= dict(run.data).items()


def test_tasks_share_it_too(app: Celery) -> None:
    """Any task reads and writes it as current_job().data, as a method step does with self.data."""

    @app.task(name="shop.count", shared=False)
    def count() -> None:
        data = current_job().data  # type: ignore[union-attr] # it is a job
        data["count"] = data.get("count", 0) + 1
        data.setdefault("list", []).append(len(data))

    class Counted(Sequence):
        one, two = step("shop.count"), step("shop.count")

    work_off(app, run := Counted.start())
    assert dict(run.data) == {"count": 2, "list": [2, 2]}


def test_from_outside(app: Celery) -> None:
    """run.data is read and written at once, by whoever has the run."""
    run = Steered.start(a=1)
    run.data["b"] = [2]
    del run.data["a"]
    again = Batch.get(run.id)
    assert isinstance(again, Steered)
    assert (dict(again.data), len(again.data), "a" in again.data) == ({"b": [2]}, 1, False)
    with pytest.raises(KeyError):
        del run.data["a"]


def test_an_error_forgets_what_it_changed(app: Celery) -> None:
    """Data is committed with the step's outcome: a failed step has changed nothing."""
    run = Steered.start(fails=True)
    work(app)
    assert "seen" not in run.data
    run.data["fails"] = False
    run.retry()
    work(app)
    assert (run.status, run.data["seen"]) == ("complete", 1)


def test_a_retry_forgets_what_it_changed(app: Celery) -> None:
    """An attempt that raises and is tried again leaves nothing behind."""

    class Stubborn(Sequence):
        @step(retries=2)
        def work(self) -> None:
            self.data["attempts"] = self.data.get("attempts", 0) + 1
            job = current_job()
            assert job is not None
            if job.attempt < 3:
                raise ValueError("not yet")

    work_off(app, run := Stubborn.start())
    assert (run.data["attempts"], run.completed_jobs[0].attempts) == (1, 3)


@pytest.mark.parametrize("given", [{"x": object()}, {"x" * 256: 1}, {"a\0b": 1}])
def test_what_cannot_be_stored(app: Celery, given: dict[str, Any]) -> None:
    """What the database can't keep is refused at once, wherever it is said, and the key is named."""
    with pytest.raises(NotStorable, match=f"{next(iter(given))!r}"[1:-1].replace("\\", r"\\")):
        Steered.start(**given)
    assert Batch.list() == []
    run = Steered.start()
    with pytest.raises(NotStorable):
        run.data.update(given)


def test_a_step_that_keeps_what_cannot_be_stored_fails(app: Celery) -> None:
    """Also where a value was changed in place to something that JSON can't hold."""

    class Careless(Sequence):
        @step
        def keep(self) -> None:
            self.data["list"] = []
            self.data["list"].append(object())

    run = Careless.start()
    work(app)
    assert (run.status, run.failed_jobs[0].error_class) == ("failed", "NotStorable")
    assert dict(run.data) == {}


def test_two_writers_of_one_key(app: Celery) -> None:
    """Of two steps that run at once, what is committed later stays; keys that it left alone stay too."""

    @app.task(name="shop.write", shared=False)
    def write(word: str) -> None:
        data = current_job().data  # type: ignore[union-attr] # it is a job
        data["last"], data[word] = word, True
        if word == "outer":
            # Another worker runs the other one meanwhile.
            work(app)

    class Both(Orchestration):
        def plan(self) -> None:
            with self.in_parallel():
                self.run("shop.write", "outer")
                self.run("shop.write", "inner")

    class Writers(Sequence):
        both = step(Both)

    run = Writers.start()
    for message in messages(app):
        run_message(app, message)
    first, second = messages(app)
    app.finalize()
    requeue(app, second)
    run_message(app, first)
    work(app)
    assert run.status == "complete"
    assert dict(run.data) == {"inner": True, "last": "outer", "outer": True}


def requeue(app: Celery, message: Any) -> None:
    """Put a message back into the queue."""
    with app.producer_pool.acquire() as producer:
        producer.publish(
            message.payload, headers=message.headers, routing_key=app.conf.task_default_queue, serializer="json",
            exchange="", correlation_id=message.properties["correlation_id"], reply_to=None,
        )  # fmt: skip
