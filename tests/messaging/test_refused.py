"""What a call is refused for at enrolment, before there is a row that no worker could run or write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, flows_app, rows, work
from celery import Celery, chain
from kombu import Queue

from celery_flows import Batch, Orchestration, Workflow
from celery_flows.errors import InvalidSetting, TooLong


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(database_url) as app:
        app.set_current()
        yield app


@pytest.fixture(params=["restart the job", "again", 7])
def wrong(app: Celery, request: pytest.FixtureRequest) -> Any:
    """A task with an on_loss that is none."""

    @app.task(name="shop.wrong", on_loss=request.param, shared=False)
    def wrong() -> None: ...

    return app.tasks["shop.wrong"]


class Once(Orchestration):
    """One job."""

    def plan(self, task: str) -> None:
        self.run(task)


ON_LOSS = r"'on_loss of task shop\.wrong' is .*, but must be \"fail\", \"retry\" or None"


class TestOnLoss:
    """A task's own on_loss."""

    def test_it_is_refused_in_a_block(self, app: Celery, wrong: Any) -> None:
        """At the call, by the task's name, and also where the block's code swallows it; nothing is enrolled."""
        batch = Batch.create(app=app)
        for is_swallowed in (False, True):
            with pytest.raises(InvalidSetting, match=ON_LOSS), batch.jobs():
                app.tasks["shop.add"].delay(1)
                try:
                    wrong.delay()
                except InvalidSetting:
                    if not is_swallowed:
                        raise
        assert (rows(app), called(app)) == ([], [])

    def test_it_is_refused_in_a_plan_and_as_a_callback(self, app: Celery, wrong: Any) -> None:
        """Whatever would make a job of it."""
        with pytest.raises(InvalidSetting, match=ON_LOSS):
            Once.start(wrong.name)
        with pytest.raises(InvalidSetting, match=ON_LOSS):
            Batch.create(app=app).on("complete", wrong)
        assert rows(app) == []

    def test_it_fails_the_job_that_was_called_elsewhere(self, app: Celery, wrong: Any) -> None:
        """Who calls by name may not have the task: then the worker's job fails by it, and is not stuck."""
        name = wrong.name
        task = app._tasks.pop(name)
        batch = Batch.create(app=app)
        with batch.jobs():
            app.send_task(name)
        app._tasks[name] = task
        work(app)
        [failed] = batch.failed_jobs
        assert (batch.status, failed.error_class) == ("failed", "InvalidSetting")
        assert "on_loss of task shop.wrong" in (failed.error_message or "")

    def test_outside_of_batches_it_means_nothing(self, app: Celery, wrong: Any) -> None:
        """A call that is nobody's job runs as ever."""
        wrong.delay()
        assert called(app) == [("shop.wrong",)]

    def test_a_flow_class_is_refused_inside_another_too(self, app: Celery) -> None:
        """By the name of the class."""

        class Wrong(Once):
            on_loss = "restart the job"

        class Outer(Orchestration):
            def plan(self) -> None:
                self.run(Wrong, "shop.add")

        with pytest.raises(InvalidSetting, match=r"'on_loss of Wrong' is"):
            Outer.start()
        assert rows(app) == []


LONG = "q" * 300


class Elsewhere(Once):
    """Its planning and its handlers run in a queue with a name that does not fit."""

    queue = LONG


def too_long(what: str) -> Any:
    """The refusal of a name, with what it is the name of."""
    return pytest.raises(
        TooLong, match=f"^{what} is 300 characters long, and may have 255 at most: q{{60}}\\.\\.\\.$"
    )


QUEUE = r"The name of the queue for shop\.add"


class TestNames:
    """Names that don't fit their columns, which SQLite alone would take."""

    @pytest.mark.parametrize("queue", [LONG, Queue(LONG)])
    def test_a_queue(self, app: Celery, queue: Any) -> None:
        """In a block, a plan, a callback: before anything is written."""
        add, batch = app.tasks["shop.add"], Batch.create(app=app)
        with too_long(QUEUE), batch.jobs():
            add.apply_async((1,), queue=queue)
        with too_long(QUEUE), batch.jobs():
            chain(add.s(1), add.s(2).set(queue=queue))()
        with too_long(QUEUE):
            Workflow.from_canvas(add.s(1).set(queue=queue)).start()
        with too_long(QUEUE):
            batch.on("complete", add.si(1).set(queue=queue))
        assert (rows(app), called(app)) == ([], [])

    def test_a_queue_of_a_flow_class(self, app: Celery) -> None:
        """Where it is started, and where it is a part of another."""

        class Outer(Orchestration):
            def plan(self) -> None:
                self.run(Elsewhere, "shop.add")

        for how in (lambda: Elsewhere.delay("shop.add"), Outer.start):
            with too_long(r"The name of the queue for .*Elsewhere\.plan"):
                how()
        assert rows(app) == []

    def test_a_task_and_its_id(self, app: Celery) -> None:
        """Each is named as what it is."""
        with too_long("The name of a task"), Batch.create(app=app).jobs():
            app.send_task(LONG)
        with too_long(r"The task id of a call of shop\.add"), Batch.create(app=app).jobs():
            app.tasks["shop.add"].apply_async((1,), task_id=LONG)
        assert (rows(app), called(app)) == ([], [])

    def test_a_key(self, app: Celery) -> None:
        """Cut off, two keys would be one."""
        for make in (lambda: Batch.create(key=LONG), lambda: Once.using(key=LONG).start("shop.add")):
            with too_long("The key of a batch"):
                make()
        assert Batch.list() == []

    def test_a_queue_that_a_route_names(self, app: Celery) -> None:
        """Who calls can't know it: the job is queued, in a queue that is not known."""
        app.conf.task_routes = {"shop.add": {"queue": LONG}}
        batch = Batch.create(app=app)
        with batch.jobs():
            app.tasks["shop.add"].delay(1)
        assert [(row.state, row.queue) for row in rows(app)] == [("queued", None)]
        assert called(app, LONG) == [("shop.add", 1)]
