"""drain(): what waits is run in order, here, by a worker's own way, until nothing waits."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apps import flows_app, notes_of
from celery import Celery, current_app
from celery.exceptions import Reject

from celery_flows import Batch, Flows, current_job
from celery_flows.errors import ConfigurationError, NeverDrained
from celery_flows.testing import InProcessWorker, drain
from celery_flows.testing import worker as worker_module


def filled(worker: InProcessWorker, *calls: Any) -> Batch:
    """A batch of calls of shop.add, or of signatures."""
    batch = Batch.create(app=worker.app)
    with batch.jobs():
        for call in calls:
            call.apply_async() if hasattr(call, "apply_async") else worker.app.tasks["shop.add"].delay(call)
    return batch


def test_jobs_callbacks_and_other_calls(worker: InProcessWorker) -> None:
    """What is published meanwhile is run too, after what was published before; each is told of in this order."""
    note = worker.app.tasks["shop.note"]
    batch = Batch.create().on("complete", note)
    with batch.jobs():
        for number in range(3):
            worker.app.tasks["shop.add"].delay(number, y=1)
    note.delay("untracked")
    ran = worker.drain()
    assert [str(one) for one in ran] == [
        "shop.add(0, y=1): SUCCESS",
        "shop.add(1, y=1): SUCCESS",
        "shop.add(2, y=1): SUCCESS",
        "shop.note('untracked'): SUCCESS",
        f"shop.note('{batch.id}'): SUCCESS",
    ]
    assert ([one.result for one in ran[:3]], batch.status) == ([1, 2, 3], "complete")
    assert notes_of(worker.app) == [("untracked",), (batch.id,)]
    assert worker.drain() == []


def test_over_several_queues(worker: InProcessWorker) -> None:
    """The order is that of publishing, in whichever queue; or only some queues are looked at."""
    note = worker.app.tasks["shop.note"]
    for number, queue in enumerate(["b", "a", "b", "c", "a"]):
        note.apply_async([number], queue=queue)
    worker.drain(at_most=2)
    assert notes_of(worker.app) == [(0,), (1,)]
    worker.drain(queues=["a"])
    assert notes_of(worker.app)[2:] == [(4,)]
    worker.drain()
    assert notes_of(worker.app)[3:] == [(2,), (3,)]


def test_step_by_step(worker: InProcessWorker) -> None:
    """What waits while a part is run keeps its place before what that part has published."""

    @worker.app.task(name="shop.parent", shared=False)
    def parent(number: int) -> None:
        worker.app.tasks["shop.note"].delay(number)

    for number in range(3):
        parent.delay(number)
    ran = [one for _ in range(6) for one in worker.drain(at_most=1)]
    assert [(one.task, one.args) for one in ran] == [
        *(("shop.parent", [number]) for number in range(3)),
        *(("shop.note", [number]) for number in range(3)),
    ]


def test_what_is_due_later(worker: InProcessWorker) -> None:
    """It comes after what is due, by its time and without waiting for that; or it stays."""
    note = worker.app.tasks["shop.note"]
    note.apply_async(["tomorrow"], eta=datetime.now(UTC) + timedelta(days=1))
    note.apply_async(["in a minute"], countdown=60)
    note.apply_async(["now"])
    note.apply_async(["long ago"], eta=datetime.now(UTC) - timedelta(days=1))
    worker.drain(later=False)
    assert notes_of(worker.app) == [("now",), ("long ago",)]
    worker.drain()
    assert notes_of(worker.app)[2:] == [("in a minute",), ("tomorrow",)]


def test_what_is_due_by_the_clock(worker: InProcessWorker) -> None:
    """A clock that is moved makes due what would be by then."""
    clock = worker.freeze()
    batch = filled(worker, worker.app.tasks["shop.add"].s(1).set(countdown=300))
    assert worker.drain(later=False) == []
    clock.advance(minutes=4)
    assert worker.drain(later=False) == []
    clock.advance(minutes=1)
    assert len(worker.drain(later=False)) == 1
    assert batch.status == "complete"


def test_a_chain_with_retries(worker: InProcessWorker) -> None:
    """Each step runs when its turn has come, and a retry at once: nobody waits for its countdown."""

    @worker.app.task(name="shop.mail", bind=True, shared=False, max_retries=2)
    def mail(self: Any) -> None:
        if self.job.attempt < 3:
            raise self.retry(countdown=3600)

    batch = Batch.create()
    with batch.jobs():
        (mail.si() | worker.app.tasks["shop.note"].si("mailed")).delay()
    states = [(one.task, one.state) for one in worker.drain()]
    assert states == [
        ("shop.mail", "RETRY"),
        ("shop.mail", "RETRY"),
        ("shop.mail", "SUCCESS"),
        ("shop.note", "SUCCESS"),
    ]
    assert batch.status == "complete"


def test_one_that_fails(worker: InProcessWorker, caplog: pytest.LogCaptureFixture) -> None:
    """What it raised is told of, and logged; the others go on."""
    batch = filled(worker, worker.app.tasks["shop.fail"].s("no"), 1)
    failed, done = worker.drain()
    assert (str(failed), done.state, done.error) == ("shop.fail('no'): FAILURE, ValueError('no')", "SUCCESS", None)
    assert "ValueError: no" in caplog.text
    assert (batch.status, batch.progress.complete) == ("failed", 1)


def test_raising_what_one_raises(worker: InProcessWorker) -> None:
    """raises=True raises it once it is written, with the task's own lines; what is left, waits."""
    batch = filled(worker, worker.app.tasks["shop.fail"].s("no"), 1)
    with pytest.raises(ValueError, match="no") as caught:
        worker.drain(raises=True)
    assert any(line.name == "fail" for line in caught.traceback)
    assert (batch.failed_jobs[0].error_message, batch.progress.pending) == ("no", 1)
    assert [one.task for one in worker.drain(raises=True)] == ["shop.add"]


def test_one_that_is_tried_again_is_no_failure(worker: InProcessWorker) -> None:
    """Also where its plan says so, and not its task: raises=True waits for the last attempt."""
    seen = []

    @worker.app.task(name="shop.third", shared=False)
    def third() -> None:
        seen.append(current_job().attempt)  # type: ignore[union-attr] # it is a job
        if len(seen) < 3:
            raise ValueError("not yet")

    batch = filled(worker, third.s().set(flows_retries=2))
    assert [one.state for one in worker.drain(raises=True)] == ["RETRY", "RETRY", "SUCCESS"]
    assert (seen, batch.status) == ([1, 2, 3], "complete")


def test_one_that_never_ends(worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that calls itself is stopped, and the error names it."""

    @worker.app.task(name="shop.again", shared=False)
    def again(number: int) -> None:
        again.delay(number + 1)

    monkeypatch.setattr(worker_module, "ENOUGH", 20)
    again.delay(0)
    with pytest.raises(
        NeverDrained, match=r"20 messages were run by drain\(\), .* The last ones: .*shop.again\(19\)"
    ):
        worker.drain()
    assert [str(one) for one in worker.drain(at_most=1)] == ["shop.again(20): SUCCESS"]


def test_what_no_worker_can_run(worker: InProcessWorker) -> None:
    """A message of a task that is not there any more fails its job, as in a worker."""
    batch = filled(worker, 1)
    worker.app.tasks.pop("shop.add")
    [ran] = worker.drain()
    assert (ran.state, ran.args, type(ran.error).__name__) == ("FAILURE", [1], "NotRegistered")
    assert batch.failed_jobs[0].error_class == "NotRegistered"


def test_what_no_worker_can_read(worker: InProcessWorker) -> None:
    """So does one whose content the app does not accept."""
    batch = filled(worker, 1)
    worker.app.conf.accept_content = ["yaml"]
    [ran] = worker.drain()
    assert (ran.state, type(ran.error).__name__) == ("FAILURE", "ContentDisallowed")
    assert str(ran).startswith("shop.add(...): FAILURE, ")
    assert batch.failed_jobs[0].error_class == "ContentDisallowed"


def test_what_is_revoked_expired_or_cancelled(worker: InProcessWorker) -> None:
    """It is not run, and its job is cancelled."""
    add = worker.app.tasks["shop.add"]
    late = filled(worker, add.s(1).set(expires=datetime.now(UTC) - timedelta(minutes=1)))
    cancelled = filled(worker, 2)
    cancelled.cancel()
    assert [one.state for one in worker.drain()] == ["REVOKED", "IGNORED"]
    assert (late.progress.cancelled, cancelled.progress.cancelled) == (1, 1)


def test_one_that_ends_its_process(worker: InProcessWorker) -> None:
    """The test goes on, and the job is lost as it would be."""

    @worker.app.task(name="shop.leave", shared=False)
    def leave() -> None:
        sys.exit(3)

    batch = filled(worker, leave.s(), 1)
    assert [one.state for one in worker.drain()] == ["FAILURE", "SUCCESS"]
    assert batch.failed_jobs[0].error_class == "WorkerLost"


@pytest.mark.parametrize("late", [True, False])
def test_one_that_is_put_back(worker: InProcessWorker, late: bool) -> None:
    """A message that a task rejects for another turn has it after the others, acknowledged late or not."""
    seen = []

    @worker.app.task(name="shop.reject", shared=False, acks_late=late)
    def reject() -> None:
        seen.append(1)
        if len(seen) < 3:
            raise Reject("not now", requeue=True)

    batch = filled(worker, reject.s(), 1)
    states = [f"{one.task} {one.state}" for one in worker.drain()]
    assert states == ["shop.reject REJECTED", "shop.add SUCCESS", "shop.reject REJECTED", "shop.reject SUCCESS"]
    assert batch.status == "complete"


def test_inside_of_a_block(worker: InProcessWorker) -> None:
    """What jobs call is their own: a block that the test has open takes none of it."""

    @worker.app.task(name="shop.caller", shared=False)
    def caller() -> None:
        worker.app.tasks["shop.note"].delay("called")

    first, second = filled(worker, caller.s()), Batch.create()
    with second.jobs():
        worker.drain()
    assert (first.status, second.progress.total, notes_of(worker.app)) == ("complete", 0, [("called",)])


def test_the_app_is_the_current_one(worker: InProcessWorker) -> None:
    """In a task, as in a worker: shared tasks find it. Afterwards it is the test's own again."""
    seen = []

    @worker.app.task(name="shop.look", shared=False)
    def look() -> None:
        seen.append(current_app.main)

    other = Celery("other", set_as_current=False)
    look.delay()
    other.set_current()
    drain(worker.app)
    assert (seen, current_app.main) == (["shop"], "other")


def test_a_broker_that_is_not_in_memory(redis_url: str, file_url: str) -> None:
    """Messages that others may wait for are left alone, and it says what to do."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    Flows(app, database_url=file_url)
    with pytest.raises(ConfigurationError, match=r"app 'shop' has 'redis'.*flows_worker"):
        drain(app)


def test_another_broker_in_memory(file_url: str) -> None:
    """Kombu's own will do: an app need not be set up for drain()."""
    with flows_app(file_url) as app:
        batch = Batch.create(app=app)
        with batch.jobs():
            app.tasks["shop.add"].delay(1)
        assert [str(one) for one in drain(app)] == ["shop.add(1): SUCCESS"]
