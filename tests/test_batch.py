"""Batches as a user holds them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apps import called, counting, flows_app, messages, notes_of, rows, runtime_of, work
from celery import Celery, chain, chord, group

from celery_flows import Batch, BatchFinished, BatchNotFound, NotJson, UnknownEvent, UnknownTask
from celery_flows.errors import BlockMisuse, CanvasNotSupported, InvalidSetting, WaitTimeout
from celery_flows.shown.words import short


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app with Flows and a few tasks."""
    with flows_app(file_url) as app:
        yield app


def finished(app: Celery, task: str = "shop.add") -> Batch:
    """A batch whose one job has run."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks[task].delay(1)
    work(app)
    return batch


def test_create_keeps_what_it_is_given(app: Celery) -> None:
    """Description, context and tags are read back as given, by the batch that was made and by one found."""
    context = {"id": 42, "when": datetime(2026, 1, 2, tzinfo=UTC), "text": "é\x00\ud800"}
    made = Batch.create(description="Rescore\x00", context=context, tags=["a", 'b"c'], app=app)
    found = Batch.get(made.id, app=app)
    for batch in (made, found):
        assert (batch.description, batch.context, batch.tags) == ("Rescore\ufffd", context, ["a", 'b"c'])
        assert (batch.kind, batch.parent, batch.status) == ("batch", None, "pending")
        assert batch.completed_at is None
        assert abs(batch.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert made == found
    assert len({made, found}) == 1


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"context": object()}, NotJson, "The context of a batch can't be stored as JSON"),
        ({"tags": "nightly"}, InvalidSetting, r"'tags' is 'nightly', but must be a list of texts: \['nightly'\]"),
        ({"tolerate": "lots"}, InvalidSetting, "'tolerate' is 'lots'"),
        ({"tolerate": -1}, InvalidSetting, "'tolerate' is -1"),
        ({"tolerate": "101%"}, InvalidSetting, 'from "0%" to "100%"'),
    ],
)
def test_create_refuses(app: Celery, values: dict[str, Any], error: type[Exception], says: str) -> None:
    """What a batch can't be made with is refused by name, and no batch is made."""
    before = len(Batch.list(app=app))
    with pytest.raises(error, match=says):
        Batch.create(app=app, **values)
    assert len(Batch.list(app=app)) == before


@pytest.mark.parametrize("batch_id", ["nonsense", None, "", "with\x00nul", "\ud800", 7, "x" * 300, "' or 1=1"])
def test_get_of_what_is_no_id(app: Celery, batch_id: Any) -> None:
    """Whatever is not the id of a batch is not found, and nothing else."""
    with pytest.raises(BatchNotFound, match=r"There is no batch"):
        Batch.get(batch_id, app=app)


def test_repr_never_queries(app: Celery) -> None:
    """Showing a batch and its lists asks the database nothing."""
    batch = Batch.get(finished(app).id, app=app)
    other = Batch(batch.id, runtime_of(app))
    statements = counting(runtime_of(app).database)
    assert repr(batch).startswith(f"<Batch {short(batch.id)}: complete, as of ")
    assert repr(other) == f"<Batch {short(batch.id)}: not read yet>"
    repr((batch.pending_jobs, batch.failed_jobs, batch.completed_jobs))
    assert statements() == 0


def test_progress_and_status_are_one_fresh_query_each(app: Celery) -> None:
    """Progress, status and the times are asked for each time; what never changes is read once."""
    batch = Batch(finished(app).id, runtime_of(app))
    statements = counting(runtime_of(app).database)
    assert dict(batch.progress) == {"total": 1, "complete": 1, "failed": 0, "cancelled": 0, "pending": 0}
    assert statements() == 1
    assert batch.status == "complete"
    assert statements() == 2
    assert None not in (batch.completed_at, batch.settled_at)
    assert statements() == 4
    assert (batch.description, batch.context, batch.tags) == (None, None, [])
    assert statements() == 4


def test_the_three_lists(app: Celery) -> None:
    """Each list holds the jobs of its sort, with what they were called with and what came of them."""
    add, fail = app.tasks["shop.add"], app.tasks["shop.fail"]
    batch = Batch.create(app=app, tolerate=5)
    with batch.jobs():
        add.delay(1, y=2)
        fail.delay("because\x00")
    work(app)
    (complete,), (failed,) = batch.completed_jobs, batch.failed_jobs
    assert (complete.task, complete.args, complete.kwargs) == ("shop.add", [1], {"y": 2})
    assert (complete.state, complete.attempts, complete.error_class) == ("complete", 1, None)
    assert (failed.state, failed.error_class, failed.error_message) == ("failed", "ValueError", "because\ufffd")
    assert failed.enrolled_at <= failed.started_at <= failed.ended_at
    assert len(batch.pending_jobs) == 0
    assert not batch.pending_jobs[:]


def test_list_filters(app: Celery) -> None:
    """Batch.list finds by state, kind, tag and moment, newest first, at most as many as asked for."""
    mark = f"mark-{id(app)}"
    old, new = finished(app), Batch.create(app=app, tags=[mark])
    assert Batch.list(app=app, limit=2) == [new, old]
    assert Batch.list(app=app, tag=mark) == [new]
    assert new in Batch.list(app=app, state="pending")
    assert new not in Batch.list(app=app, state="complete")
    assert Batch.list(app=app, kind="workflow") == []


def test_a_word_that_is_none_is_refused(app: Celery) -> None:
    """With those that are: a wrong one would find nothing, and look like an answer."""
    wrong = {
        "state is 'sleepy', but must be one of 'pending', 'running', 'complete'": lambda: {"state": "sleepy"},
        "kind is 'typo', but must be one of 'batch', 'sequence', 'orchestration'": lambda: {"kind": "typo"},
    }
    for says, words in wrong.items():
        with pytest.raises(ValueError, match=says):
            Batch.list(app=app, **words())
    with pytest.raises(
        ValueError, match=r"mode is 'everything', but must be one of 'failed', 'failed\+downstream', 'all'"
    ):
        finished(app).retry("everything")
    with pytest.raises(TypeError, match=r"since= takes a datetime, .* not 'yesterday'"):
        Batch.list(app=app, since="yesterday")  # type: ignore[arg-type] # the rule under test


def test_list_since_takes_local_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A naive moment is in local time, wherever the database thinks it is; an aware one is what it says."""
    request.addfinalizer(time.tzset)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    now = datetime.now()  # noqa: DTZ005  # the rule under test
    with flows_app(database_url) as app:
        batch = Batch.create(app=app)
        for moment in (now, now.astimezone(UTC)):
            assert Batch.list(app=app, since=moment - timedelta(hours=1)) == [batch]
            assert Batch.list(app=app, since=moment + timedelta(hours=1)) == []


ODD_TAGS = ['x"b', "b", "B", "100%", "100", "a_c", "abc", "é", "tab\\", 'q", "b', "nul\x00", "[b"]


def test_a_tag_is_found_whole(database_url: str) -> None:
    """A tag is found as it was given, capitals and all, and never inside another."""
    with flows_app(database_url) as app:
        made = {one: Batch.create(app=app, tags=["first", one]) for one in ODD_TAGS}
        for tag, batch in made.items():
            assert Batch.list(app=app, tag=tag) == [batch]


def test_wait_tells_the_status(app: Celery) -> None:
    """Waiting for a finished batch gives its status at once."""
    assert finished(app).wait(timeout=0) == "complete"
    assert finished(app, "shop.fail").wait() == "failed"


def test_wait_times_out_on_time(app: Celery) -> None:
    """WaitTimeout is a TimeoutError, comes no earlier than asked, and says how far the batch has come."""
    batch = Batch.create(app=app)
    started = datetime.now(UTC)
    with pytest.raises(TimeoutError, match=r"was not finished after 0\.3 seconds: Progress\(total=0") as caught:
        batch.wait(timeout=0.3)
    assert isinstance(caught.value, WaitTimeout)
    assert caught.value.batch_id == batch.id
    assert datetime.now(UTC) - started >= timedelta(seconds=0.3)


def test_wait_ends_when_another_process_finishes_it(app: Celery) -> None:
    """Waiting goes on until the last job has ended."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.add"].delay(1)
    worker = threading.Thread(target=work, args=(app,))
    worker.start()
    assert batch.wait(timeout=30) == "complete"
    worker.join()


def test_wait_inside_its_own_block_raises(app: Celery) -> None:
    """A batch can't be waited for where its block is open, nor a child in its parent's."""
    batch = Batch.create(app=app)
    with batch.jobs():
        child = Batch.create(app=app)
        for one in (batch, child):
            with pytest.raises(BlockMisuse, match=r"wait after the block"):
                one.wait(timeout=1)


@pytest.mark.parametrize(
    ("callback", "args"),
    [
        (lambda note: note, ["ID"]),
        (lambda note: note.s(), ["ID"]),
        (lambda note: note.s("more", 2), ["ID", "more", 2]),
        (lambda note: note.si("only"), ["only"]),
        (lambda note: note.si(), []),
        (lambda note: note.s(key=1), ["ID", {"key": 1}]),
    ],
)
def test_what_a_callback_gets(app: Celery, callback: Any, args: list[Any]) -> None:
    """A task or s() gets the batch id and then its own arguments; si() gets its own only."""
    batch = Batch.create(app=app)
    assert batch.on("complete", callback(app.tasks["shop.note"])) is batch
    with batch.jobs():
        pass
    work(app)
    assert notes_of(app) == [tuple(batch.id if one == "ID" else one for one in args)]


def test_where_a_callback_runs(file_url: str) -> None:
    """queue= goes first, then the signature's own queue, then the setting callback_queue."""
    with flows_app(file_url, callback_queue="of-the-setting") as app:
        note = app.tasks["shop.note"]
        batch = Batch.create(app=app)
        batch.on("complete", note.s(1).set(queue="of-the-signature", priority=3), queue="asked-for")
        batch.on("complete", note.s(2).set(queue="of-the-signature"))
        batch.on("complete", note.s(3))
        with batch.jobs():
            pass
        (first,) = messages(app, "asked-for")
        assert (first.payload[0], first.properties["priority"]) == ([batch.id, 1], 3)
        assert called(app, "of-the-signature") == [("shop.note", batch.id, 2)]
        assert called(app, "of-the-setting") == [("shop.note", batch.id, 3)]


def test_on_refuses(app: Celery, file_url: str) -> None:
    """An unknown event, what is no task of this app, and a canvas are refused at once, by name."""
    batch, note = Batch.create(app=app), app.tasks["shop.note"]
    with pytest.raises(UnknownEvent, match=r'There is no event \'done\'. Events are "complete"'):
        batch.on("done", note)
    with pytest.raises(UnknownTask, match=r"'elsewhere.f' is not registered"):
        batch.on("complete", app.signature("elsewhere.f"))
    for nothing in (print, "shop.nothing", None, 3):
        with pytest.raises(UnknownTask, match=r"is not registered"):
            batch.on("complete", nothing)
    for canvas in (chain(note.s(), note.s()), group(note.s(), note.s()), chord([note.s()], note.s())):
        with pytest.raises(CanvasNotSupported, match=r"shop\.note.* would carry later tasks"):
            batch.on("complete", canvas)
    with pytest.raises(NotJson, match=r"Positional argument 2 of shop\.note"):
        batch.on("complete", note.s(object()))
    assert rows(app, announces_id=batch.id) == []


def test_on_refuses_a_foreign_apps_task(app: Celery, file_url: str) -> None:
    """A task that another app has, and this one has not, is not registered here."""
    with flows_app(file_url, name="other") as other:

        @other.task(name="other.only", shared=False)
        def only() -> None: ...

        with pytest.raises(UnknownTask, match=r"'other\.only' is not registered with this app"):
            Batch.create(app=app).on("complete", only.s())


def test_on_a_finished_batch(app: Celery) -> None:
    """A finished batch takes no callback: its events will not come again."""
    batch = finished(app)
    with pytest.raises(BatchFinished, match=r"is finished \(complete\)"):
        batch.on("complete", app.tasks["shop.note"])


def test_on_failure_after_the_failure_fires_at_once(app: Celery) -> None:
    """A failure callback added while a failed batch still has jobs to run is published at once."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.fail"].delay()
        app.tasks["shop.add"].apply_async((1,), queue="later")
    work(app)
    assert (batch.status, batch.settled_at) == ("failed", None)
    batch.on("failure", app.tasks["shop.note"].s("now")).on("settled", app.tasks["shop.note"].s("at the end"))
    work(app)
    assert notes_of(app) == [(batch.id, "now")]


@pytest.mark.parametrize("event", ["complete", "success"])
def test_success_is_another_name_for_complete(app: Celery, event: str) -> None:
    """Several callbacks of one event all run, whichever of its names they were added under."""
    note = app.tasks["shop.note"]
    batch = Batch.create(app=app).on(event, note.s(1)).on("complete", note.s(2))
    with batch.jobs():
        app.tasks["shop.add"].delay(1)
    work(app)
    assert sorted(notes_of(app)) == [(batch.id, 1), (batch.id, 2)]


def test_two_apps_in_one_process(app: Celery, file_url: str, tmp_path: Any) -> None:
    """In a block of one app's batch, the calls of another app's tasks are published by that app, at once."""
    with flows_app(file_url, name="other") as other:
        batch = Batch.create(app=app)
        with batch.jobs():
            other.tasks["shop.add"].delay(2)
            assert called(other) == [("shop.add", 2)]
            app.tasks["shop.add"].delay(1)
            assert called(app) == []
            assert Batch.create(app=other).parent is None
        assert called(app) == [("shop.add", 1)]
        assert batch.progress.total == 1
