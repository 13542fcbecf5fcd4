"""The choke point: whatever publishes is caught, and what arrives is what Celery would have sent."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apps import called, flows_app, messages, plain_app, rows, run_message, shop_tasks, work
from celery import Celery, Task, group, signals
from kombu import Connection, Exchange, Queue

from celery_flows import Batch, NotJson
from celery_flows.errors import DuplicateJob


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app with Flows and a few tasks."""
    with flows_app(file_url) as app:
        yield app


@pytest.fixture
def plain() -> Iterator[Celery]:
    """The same app without Flows."""
    app = plain_app()
    shop_tasks(app)
    yield app
    app.close()


def enrolled(app: Celery, call: Callable[[], Any]) -> Any:
    """Make a call in a block; the messages of that block are in the queues after."""
    with Batch.create(app=app).jobs():
        return call()


SOON = datetime.now(UTC) + timedelta(hours=1)
BERLIN = SOON.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "priority": {"priority": 7},
    "countdown": {"countdown": 60},
    "eta": {"eta": SOON},
    "eta elsewhere": {"eta": BERLIN},
    "eta, naive": {"eta": SOON.replace(tzinfo=None)},
    "expires in seconds": {"expires": 90},
    "expires in half seconds": {"expires": 90.5},
    "expires": {"expires": SOON},
    "expires elsewhere": {"expires": BERLIN},
    "expires, naive": {"expires": SOON.replace(tzinfo=None)},
    "expires as text": {"expires": SOON.isoformat()},
    "expired": {"expires": datetime(2020, 1, 1, tzinfo=UTC)},
    "headers": {"headers": {"tenant": 7, "nested": {"a": [1]}}},
    "serializer": {"serializer": "pickle"},
    "compression": {"compression": "zlib"},
    "ignore_result": {"ignore_result": True},
    "time limits": {"time_limit": 30, "soft_time_limit": 20},
    "shadow": {"shadow": "another.name"},
    "routing_key": {"routing_key": "rk", "exchange": ""},
    "retry policy": {"retry": True, "retry_policy": {"max_retries": 2, "interval_start": 0}},
    "transient": {"delivery_mode": 1},
    "reply_to": {"reply_to": "somewhere"},
    "root and parent": {"root_id": "the-root", "parent_id": "the-parent"},
    "stamps": {"stamped_headers": ["release"], "release": "7"},
    "user's own property": {"message_id": "m-1"},
    "kombu connection": {"connection": Connection("memory://"), "add_to_parent": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_arrives_is_what_celery_sends(app: Celery, plain: Celery, options: dict[str, Any]) -> None:
    """With each option, body, headers and properties are Celery's own, apart from our header."""
    theirs, their_times = sent(plain, options, lambda call: call())
    ours, our_times = sent(app, options, lambda call: enrolled(app, call))
    assert ours["headers"].pop("flows")["delivery"] == 1
    assert ours == theirs
    assert our_times == pytest.approx(their_times, abs=5)


def sent(app: Celery, options: dict[str, Any], make: Callable[[Any], Any]) -> tuple[dict[str, Any], list[float]]:
    """Call with these options; then what of the message must be equal, and its times, in seconds."""
    add = app.tasks["shop.add"]
    make(lambda: add.apply_async((1,), {"y": 2}, task_id="the-id", **options))
    (message,) = messages(app) + messages(app, "rk")
    message.accept = {"application/json", "application/x-python-serialize"}
    headers, properties = dict(message.headers), dict(message.properties)
    times = [_seconds(headers.pop("eta")), _seconds(headers.pop("expires"))]
    times.append(float(properties.pop("expiration", 0)) / 1000)
    del properties["delivery_tag"]
    for own, common in ((app.thread_oid, "ours"), (app.conf.task_default_queue, "default")):
        properties = _replaced(properties, own, common)
    content = (message.content_type, message.content_encoding, message.payload)
    return {"headers": headers, "properties": properties, "content": content}, times


def _seconds(moment: str | None) -> float:
    if moment is None:
        return 0
    read = datetime.fromisoformat(moment)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, old, new) for key, one in value.items()}
    return new if value == old else value


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        pytest.param(lambda add: add.delay(1), [[1]], id="delay"),
        pytest.param(lambda add: add.apply_async(args=[1]), [[1]], id="apply_async"),
        pytest.param(lambda add: add.s(1).apply_async(), [[1]], id="signature"),
        pytest.param(lambda add: add.s(1)(2) and add.s(1).delay(), [[1]], id="a signature's call runs here"),
        pytest.param(lambda add: add.app.send_task("shop.add", (1,)), [[1]], id="send_task"),
        pytest.param(lambda add: add.app.send_task("unknown.here", [1]), [[1]], id="send_task of others' tasks"),
        pytest.param(lambda add: add.app.send_task("shop.add", (1,), None, 3), [[1]], id="send_task by position"),
        pytest.param(lambda add: add.app.signature("shop.add", (1,)).delay(), [[1]], id="signature by name"),
        pytest.param(lambda add: group(add.s(1), add.s(2))(), [[1], [2]], id="group"),
        pytest.param(lambda add: group([group([add.s(1)]), add.s(2)]).delay(), [[1], [2]], id="nested group"),
        pytest.param(lambda add: add.chunks([(1, 2), (3, 4)], 1)(), 2, id="chunks"),
        pytest.param(lambda add: add.map([1, 2, 3]).delay(), 1, id="map"),
        pytest.param(lambda add: add.starmap([(1, 2), (3, 4)]).delay(), 1, id="starmap"),
    ],
)
def test_everything_that_publishes_is_caught(app: Celery, call: Any, arguments: Any) -> None:
    """Each message that Celery would send is one job, and is sent when the block ends."""
    batch = Batch.create(app=app)
    with batch.jobs():
        call(app.tasks["shop.add"])
        assert messages(app) == []
    found = messages(app)
    assert len(found) == batch.progress.total == (arguments if isinstance(arguments, int) else len(arguments))
    assert {one.headers["flows"]["batch"] for one in found} == {batch.id}
    if isinstance(arguments, list):
        assert sorted(one.payload[0] for one in found) == arguments


def test_options_by_position(app: Celery) -> None:
    """What send_task and apply_async take by position is kept as well."""
    with Batch.create(app=app).jobs():
        app.send_task("shop.add", (1,), None, 60)
        app.tasks["shop.add"].apply_async((2,), None, "my-id")
    by_id = {message.headers["id"]: message.headers for message in messages(app)}
    assert by_id.pop("my-id")["eta"] is None
    assert [headers["eta"] is not None for headers in by_id.values()] == [True]


def test_a_group_runs_as_one(app: Celery) -> None:
    """Chunks and maps run in full, through the tasks that Celery has for them."""
    note, batch = app.tasks["shop.note"], Batch.create(app=app)
    with batch.jobs():
        note.chunks([(1,), (2,), (3,)], 2)()
        note.map([4, 5]).delay()
        note.starmap([(6, 7)]).delay()
    work(app)
    assert sorted(app.flows_test_notes) == [(1,), (2,), (3,), (4,), (5,), (6, 7)]
    assert (batch.status, batch.progress.total) == ("complete", 4)


def test_routing(app: Celery) -> None:
    """Queues by name, as kombu objects, by exchange and by task_routes are those of a plain call."""
    add = app.tasks["shop.add"]
    topic = Exchange("things", type="topic")
    app.conf.task_routes = {"shop.fail": {"queue": "of-the-route", "priority": 4}}
    with Batch.create(app=app).jobs():
        add.apply_async((1,), queue="by-name")
        add.apply_async((2,), queue=Queue("by-object", topic, routing_key="a.b", queue_arguments={"x-max": 3}))
        add.apply_async((3,), exchange=topic, routing_key="a.b")
        app.tasks["shop.fail"].delay()
        app.send_task("shop.fail", queue="of-the-call")
    assert called(app, "by-name") == [("shop.add", 1)]
    assert [one[1] for one in called(app, "by-object")] == [2, 3]
    (routed,) = messages(app, "of-the-route")
    assert routed.properties["priority"] == 4
    assert called(app, "of-the-call") == [("shop.fail",)]


def test_a_task_whose_class_is_not_ours(app: Celery) -> None:
    """A base class of the user's that knows nothing of us is caught, and its own route is kept."""

    class Own(Task):  # type: ignore[misc] # Celery's is untyped
        priority, serializer, ignore_result = 6, "pickle", True

    @app.task(base=Own, shared=False)
    def own() -> None: ...

    with Batch.create(app=app).jobs():
        own.delay()
    (found,) = messages(app)
    assert (found.properties["priority"], found.content_type) == (6, "application/x-python-serialize")
    assert found.headers["ignore_result"] is True


def test_publish_signals_fire_once_a_message(app: Celery) -> None:
    """before_ and after_task_publish fire for each message when it is published, with Celery's arguments."""
    seen: list[tuple[str, Any, Any]] = []

    def before(sender: str, body: Any, headers: Any, properties: Any, exchange: Any, **rest: Any) -> None:
        headers["traceparent"] = "00-abc"
        seen.append(("before", sender, body[0]))

    def after(sender: str, body: Any, headers: Any, routing_key: str, **rest: Any) -> None:
        seen.append(("after", sender, headers["id"]))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        with Batch.create(app=app).jobs():
            results = [app.tasks["shop.add"].delay(n) for n in range(2)]
            assert seen == []
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert [one for one in seen if one[0] == "before"] == [
        ("before", "shop.add", (0,)),
        ("before", "shop.add", (1,)),
    ]
    assert [one[2] for one in seen if one[0] == "after"] == [result.id for result in results]
    assert {message.headers["traceparent"] for message in messages(app)} == {"00-abc"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda add: add.delay(1, object()), r"Positional argument 2 of shop\.add can't be stored as JSON"),
        (lambda add: add.delay(1, y={"a": [{1, 2}, print]}), r"Argument 'y' of shop\.add can't be stored as JSON"),
        (lambda add: add.apply_async((1,), headers={"a": object()}), r"Option 'headers' of shop\.add"),
    ],
)
def test_what_json_cannot_hold_is_refused(app: Celery, call: Any, says: str) -> None:
    """What can't be stored is refused at the call, naming task and argument; nothing is enrolled or published."""
    batch = Batch.create(app=app)
    with pytest.raises(NotJson, match=says), batch.jobs():
        app.tasks["shop.add"].delay(0)
        call(app.tasks["shop.add"])
    assert (rows(app, batch_id=batch.id), messages(app), batch.status) == ([], [], "pending")


def test_a_refusal_that_is_swallowed_refuses_the_block(app: Celery) -> None:
    """The message says that nothing was enrolled, so nothing is: the block raises it again at its end."""
    batch = Batch.create(app=app)
    with pytest.raises(NotJson, match=r"Positional argument 1"), batch.jobs():
        app.tasks["shop.add"].delay(1, 2)
        with suppress(NotJson):
            app.tasks["shop.add"].delay(object(), 2)
    assert (batch.status, batch.progress.total) == ("pending", 0)


def test_a_list_that_holds_itself_is_refused(app: Celery) -> None:
    """An argument without an end is refused like any other that JSON can't hold."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotJson, match=r"Positional argument 1"), Batch.create(app=app).jobs():
        app.tasks["shop.add"].delay(endless)


def test_what_celery_checks_it_checks_at_the_call(app: Celery) -> None:
    """A call with the wrong arguments raises where it is made, as without a block."""
    batch = Batch.create(app=app)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument"), batch.jobs():
        app.tasks["shop.add"].delay()
    assert rows(app, batch_id=batch.id) == []


def test_task_ids(app: Celery) -> None:
    """A task id of the user's is the job's; one that is taken is refused, and nothing is enrolled."""
    add, batch = app.tasks["shop.add"], Batch.create(app=app)
    with batch.jobs():
        result = add.apply_async((1,), task_id="my-id")
    assert [row.id for row in rows(app, batch_id=batch.id)] == [result.id] == ["my-id"]
    assert [message.headers["id"] for message in messages(app)] == ["my-id"]
    second = Batch.create(app=app)
    with pytest.raises(DuplicateJob), second.jobs():
        add.delay(1)
        add.apply_async((1,), task_id="my-id")
    assert (rows(app, batch_id=second.id), messages(app)) == ([], [])


def test_the_rich_types_of_celerys_json_arrive(app: Celery) -> None:
    """Dates, decimals, UUIDs and bytes arrive as what they were, as with Celery's serializer."""
    import decimal
    import uuid

    values = [datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), decimal.Decimal("1.10"), uuid.UUID(int=7), b"\xff\x00"]
    with Batch.create(app=app).jobs():
        app.tasks["shop.note"].delay(*values, text="nul\x00 and \ud800")
    work(app)
    assert app.flows_test_notes == [(*values, {"text": "nul\x00 and \ud800"})]


def test_a_job_is_its_callers_child(app: Celery) -> None:
    """A job enrolled inside a task has that task as parent, its root as root, and inherits its priority."""
    app.conf.task_inherit_parent_priority = True
    add = app.tasks["shop.add"]

    @app.task(shared=False)
    def grow() -> None:
        with Batch.create(app=app).jobs():
            add.delay(1)
            app.send_task("shop.add", (2,))

    grow.apply_async(task_id="the-parent", root_id="the-root", priority=8)
    (parent,) = messages(app)
    run_message(app, parent)
    tree = [
        (one.headers["root_id"], one.headers["parent_id"], one.properties["priority"]) for one in messages(app)
    ]
    grow.apply_async(task_id="the-parent", root_id="the-root", priority=8)
    assert tree == [("the-root", "the-parent", 0), ("the-root", "the-parent", 8)]
