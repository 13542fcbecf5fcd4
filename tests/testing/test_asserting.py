"""Assertions on what was enrolled and announced, and what they say when they fail."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from celery_flows import Batch, UnknownEvent
from celery_flows.testing import InProcessWorker, assert_callback, assert_enrolled, enrolled, in_memory


def said(assertion: Any, *args: Any, **kwargs: Any) -> str:
    """What an assertion says, that must fail."""
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **kwargs)
    return str(caught.value)


class TestEnrolled:
    def test_in_order_and_in_every_state(self, worker: InProcessWorker) -> None:
        """The jobs of a batch are told of with what they were called with, those that have ended too."""
        add, fail = worker.app.tasks["shop.add"], worker.app.tasks["shop.fail"]
        batch = Batch.create()
        with batch.jobs():
            add.delay(1, y=2)
            fail.delay("no")
            add.delay(3)
        worker.drain(at_most=2)
        found = [(job.task, job.args, job.kwargs, str(job.state), job.error_message) for job in enrolled(batch)]
        assert found == [
            ("shop.add", [1], {"y": 2}, "complete", None),
            ("shop.fail", ["no"], {}, "failed", "no"),
            ("shop.add", [3], {}, "queued", None),
        ]

    def test_in_all_batches(self, worker: InProcessWorker) -> None:
        """Without a batch the jobs of all there are, the oldest first."""
        for number in range(3):
            with Batch.create().jobs():
                worker.app.tasks["shop.add"].delay(number)
        assert [job.args for job in enrolled()] == [[0], [1], [2]]

    def test_what_is_hidden_elsewhere(self, app: Celery) -> None:
        """The setting redact hides nothing from a test."""
        with in_memory(app):
            assert len(Batch.create().pending_jobs) == 0
        app.conf.flows_redact = lambda *_: (["hidden"], {})
        with in_memory(app):
            batch = Batch.create()
            with batch.jobs():
                app.tasks["shop.add"].delay(1)
            assert (enrolled(batch)[0].args, batch.pending_jobs[0].args) == ([1], ["hidden"])


class TestAssertEnrolled:
    @pytest.fixture
    def batch(self, worker: InProcessWorker) -> Batch:
        """A batch of four jobs."""
        batch = Batch.create()
        with batch.jobs():
            for number in (2, 30):
                worker.app.tasks["shop.add"].delay(number, y=1)
            worker.app.tasks["shop.total"].delay([1, 2])
            worker.app.tasks["shop.total"].delay([1, 2])
        return batch

    def test_what_was_enrolled(self, worker: InProcessWorker, batch: Batch) -> None:
        """By task or name, with some arguments or any, in one batch or in any; it gives the jobs."""
        add = worker.app.tasks["shop.add"]
        assert [job.args for job in assert_enrolled(add)] == [[2], [30]]
        assert [job.args for job in assert_enrolled("shop.add", args=(30,), batch=batch)] == [[30]]
        assert len(assert_enrolled(add, kwargs={"y": 1}, times=2)) == 2
        assert len(assert_enrolled("shop.total", args=[(1, 2)], kwargs={}, batch=batch, times=2)) == 2
        assert assert_enrolled("shop.fail", times=0) == []

    def test_what_was_not(self, worker: InProcessWorker, batch: Batch) -> None:
        """The message shows what was enrolled, and what is nearest to it first."""
        assert said(assert_enrolled, "shop.add", args=[3], batch=batch) == (
            f"shop.add(3) was not enrolled in batch {batch.id}. Enrolled are 4, those most like it first:\n"
            "  shop.add(30, y=1): queued\n"
            "  shop.add(2, y=1): queued\n"
            "  shop.total([1, 2]): queued\n"
            "  shop.total([1, 2]): queued"
        )
        assert said(assert_enrolled, "shop.add", kwargs={"y": 7}).startswith(
            "shop.add(..., y=7) was not enrolled. "
        )
        assert said(assert_enrolled, worker.app.tasks["shop.note"]).startswith("shop.note(...) was not enrolled. ")

    def test_how_often(self, batch: Batch) -> None:
        """A number that is not met is said with the number that is."""
        message = said(assert_enrolled, "shop.total", times=1, batch=batch)
        assert message.startswith(
            f"shop.total(...) was enrolled 2 times in batch {batch.id}, not once. Enrolled are 4"
        )
        assert said(assert_enrolled, "shop.add", args=[2], times=0).startswith(
            "shop.add(2) was enrolled once, not 0 times"
        )

    def test_many(self, worker: InProcessWorker) -> None:
        """Of many jobs five are shown."""
        batch = Batch.create()
        with batch.jobs():
            for number in range(9):
                worker.app.tasks["shop.add"].delay(number)
        assert said(assert_enrolled, "shop.fail", batch=batch).splitlines()[-1] == "  and 4 more"

    def test_nothing(self, worker: InProcessWorker) -> None:
        """Where nothing was enrolled it says when that happens, and what stands open."""
        message = said(assert_enrolled, "shop.add")
        assert message == (
            "shop.add(...) was not enrolled. Nothing was: calls are enrolled that are made in a block "
            "(with batch.jobs():)."
        )
        batch = Batch.create()
        with batch.jobs():
            worker.app.tasks["shop.add"].delay(1)
            assert said(assert_enrolled, "shop.add").endswith(
                f" A block of batch {batch.id} is open: its end enrolls what it has."
            )

    def test_what_is_no_task(self, worker: InProcessWorker) -> None:
        """A function that is no task is refused rather than not found."""
        with pytest.raises(TypeError, match="by itself or by its name, not by <function"):
            assert_enrolled(said)


class TestAssertCallback:
    @pytest.fixture
    def batch(self, worker: InProcessWorker) -> Batch:
        """A batch with a callback for each of two events."""
        tasks = worker.app.tasks
        return Batch.create().on("complete", tasks["shop.note"]).on("failure", tasks["shop.fail"])

    def enroll(self, worker: InProcessWorker, batch: Batch, task: str, argument: Any) -> None:
        """Give the batch its job."""
        with batch.jobs():
            worker.app.tasks[task].delay(argument)

    def test_one_that_ran(self, worker: InProcessWorker, batch: Batch) -> None:
        """It gives the callback, by the event alone, or by its task too."""
        self.enroll(worker, batch, "shop.add", 1)
        worker.drain()
        [found] = assert_callback(batch, "success")
        assert (found.task, found.args) == ("shop.note", [batch.id])
        assert_callback(batch, "complete", worker.app.tasks["shop.note"])

    def test_one_that_waits(self, worker: InProcessWorker, batch: Batch) -> None:
        """It says what the batch waits for."""
        self.enroll(worker, batch, "shop.add", 1)
        message = said(assert_callback, batch, "complete").splitlines()
        head = f"The complete callback shop.note of batch {batch.id} has not been called."
        assert message[0] == f"{head} What is queued, drain() runs."
        assert message[1] == f"Batch {batch.id} is running, and waits for:"
        assert "(shop.add): queued since" in message[2]

    def test_one_that_has_been_called(self, worker: InProcessWorker, batch: Batch) -> None:
        """That it was called is enough where one says so."""
        self.enroll(worker, batch, "shop.add", 1)
        worker.drain(at_most=1)
        assert_callback(batch, "complete", ran=False)
        assert said(assert_callback, batch, "complete") == (
            f"The complete callback shop.note of batch {batch.id} was called, and has not run: it is queued. Run "
            "it with drain(), or ask for ran=False."
        )

    def test_one_that_will_not_be_called(self, worker: InProcessWorker, batch: Batch) -> None:
        """It says what became of the batch, and which jobs failed by what."""
        self.enroll(worker, batch, "shop.fail", "no luck")
        worker.drain()
        assert said(assert_callback, batch, "complete") == (
            f"The complete callback shop.note of batch {batch.id} will not be called: the batch is failed. Failed "
            "jobs:\n  shop.fail('no luck'): failed, ValueError: no luck"
        )

    def test_one_that_failed(self, worker: InProcessWorker, batch: Batch) -> None:
        """What it raised is said."""
        self.enroll(worker, batch, "shop.fail", "no")
        worker.drain()
        assert said(assert_callback, batch, "failure") == (
            f"The failure callback shop.fail of batch {batch.id} has not ended well: shop.fail('{batch.id}'): "
            f"failed, ValueError: {batch.id}."
        )

    def test_one_that_is_not_there(self, worker: InProcessWorker, batch: Batch) -> None:
        """It says which there are."""
        assert said(assert_callback, batch, "settled") == (
            f"Batch {batch.id} has no callback for 'settled'. It has:\n"
            "  complete: shop.note('{0}'): waiting\n  failure: shop.fail('{0}'): waiting".format(batch.id)
        )
        assert "has no callback shop.add for 'complete'." in said(assert_callback, batch, "complete", "shop.add")
        assert said(assert_callback, Batch.create(), "complete").endswith(
            "has none at all: batch.on('complete', task) adds one."
        )
        with pytest.raises(UnknownEvent):
            assert_callback(batch, "finished")

    def test_after_a_retry(self, worker: InProcessWorker, batch: Batch) -> None:
        """The callbacks meant are those of the round that is on."""
        self.enroll(worker, batch, "shop.fail", "no")
        worker.drain()
        batch.retry()
        assert "has not been called" in said(assert_callback, batch, "failure")
