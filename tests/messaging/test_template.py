"""Messages that are made from the one before are those that Celery would have made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apps import flows_app, messages
from celery import Celery, signals
from kombu import Producer
from redis.client import Pipeline

from celery_flows import Batch
from celery_flows.messaging import mould, publisher, template

#: What may differ between two publishes of one call: the header of ours names the publish.
CALLS: list[dict[str, Any]] = [
    {},
    {"priority": 3},
    {"queue": "elsewhere"},
    {"expires": 60},
    {"countdown": 5},
    {"headers": {"trace": "1"}},
    {"compression": "gzip"},
    {"ignore_result": True},
    {"time_limit": 9, "soft_time_limit": 8},
    {"serializer": "json", "shadow": "another"},
]

ARGUMENTS: list[tuple[Any, ...]] = [(1, 2), ("long " * 400,), (), ([1, {"a": None}], 2.5), ("ü'\"", True), (7, 8)]


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app with a broker in memory."""
    with flows_app(file_url) as app:
        yield app


def published(app: Celery, options: dict[str, Any], ids: list[str]) -> list[Any]:
    """What is in the queue after a block of calls with these options: headers, properties and body of each."""
    with Batch.create(app=app).jobs():
        for job_id, args in zip(ids, ARGUMENTS, strict=True):
            app.tasks["shop.note"].apply_async(args, {"by": "name"}, task_id=job_id, **options)
    found = messages(app, options.get("queue"))
    return [(_without_moments(one.headers), one.properties["correlation_id"], one.payload) for one in found]


def _without_moments(headers: dict[str, Any]) -> dict[str, Any]:
    ours = {key: value for key, value in headers["flows"].items() if key != "batch"}
    return {**headers, "flows": ours, "eta": bool(headers["eta"]), "expires": bool(headers["expires"])}


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_they_are_as_celery_makes_them(
    app: Celery, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Headers, properties and body are the same, made from a pattern or one by one."""
    made = published(app, options, [f"made-{number}" for number in range(len(ARGUMENTS))])
    monkeypatch.setattr(template, "is_plain", lambda _: False)
    one_by_one = published(app, options, [f"made-{number}-" for number in range(len(ARGUMENTS))])
    assert len(made) == len(ARGUMENTS)
    assert str(made) == str(one_by_one).replace("-'", "'")


# ---------------------------------------------------------------- cast messages


@pytest.fixture
def on_redis(file_url: str, redis_url: str) -> Iterator[Celery]:
    """An app with a real broker that takes messages as texts."""
    with flows_app(file_url) as app:
        app.conf.update(broker_url=redis_url, task_default_queue=f"cast-{os.urandom(4).hex()}")
        yield app


@pytest.fixture
def cast(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the messages that were cast."""
    texts: list[str] = []
    push = mould.Foundry.push
    monkeypatch.setattr(
        mould.Foundry, "push", lambda self, key, text: (texts.append(text), push(self, key, text))[1]
    )
    return texts


needs_pipelines = pytest.mark.skipif(not hasattr(Producer, "batch"), reason="kombu has pipelines since 5.7")


@needs_pipelines
@pytest.mark.parametrize("options", CALLS, ids=str)
def test_cast_ones_are_as_celery_makes_them(
    on_redis: Celery, cast: list[str], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Headers, properties and body are the same, cast from a text or one by one, in the same order."""
    number, one_by_one = len(ARGUMENTS), [f"made-{number}-" for number in range(len(ARGUMENTS))]
    made = published(on_redis, options, [f"made-{number}" for number in range(number)])
    # The first is Celery's, the second kombu's; what is of the moment, or compressed, can't be cast.
    is_castable = not {"expires", "countdown", "headers", "compression"} & options.keys()
    assert len(cast) == (number - 2 if is_castable else 0)
    monkeypatch.setattr(template, "is_plain", lambda _: False)
    assert str(made) == str(published(on_redis, options, one_by_one)).replace("-'", "'")


@needs_pipelines
def test_a_priority_has_a_list_of_its_own(on_redis: Celery, cast: list[str]) -> None:
    """Cast messages go where kombu puts those of their priority."""
    published(on_redis, {"priority": 3}, [f"high-{number}" for number in range(len(ARGUMENTS))])
    assert {json.loads(text)["properties"]["priority"] for text in cast} == {3}


@needs_pipelines
def test_calls_that_are_not_alike_keep_their_order(on_redis: Celery, cast: list[str]) -> None:
    """Cast messages and those that kombu makes arrive in the order of their calls."""
    note, add = on_redis.tasks["shop.note"], on_redis.tasks["shop.add"]
    with Batch.create(app=on_redis).jobs():
        calls = [
            call
            for number in range(4)
            for call in (note.delay(number), note.delay(-1), add.delay(number), note.apply_async((), headers={}))
        ]
    assert [one.headers["id"] for one in messages(on_redis)] == [call.id for call in calls]
    assert cast


@needs_pipelines
@pytest.mark.parametrize(("longest", "commands"), [(1 << 18, 1), (0, 28)])
def test_many_are_one_command(
    on_redis: Celery, cast: list[str], monkeypatch: pytest.MonkeyPatch, longest: int, commands: int
) -> None:
    """In the order of their calls; where they are long, another command begins."""
    monkeypatch.setattr(mould, "_LONGEST", longest)
    said: list[int] = []
    execute = Pipeline.execute
    monkeypatch.setattr(
        Pipeline, "execute", lambda self, *a: (said.append(len(self.command_stack)), execute(self, *a))[1]
    )
    with Batch.create(app=on_redis).jobs():
        calls = [on_redis.tasks["shop.note"].delay(number) for number in range(30)]
    # Those that kombu pushed by itself, each a command, stand before the cast ones.
    assert len(cast) == 28
    assert said[-1] == commands
    assert [one.headers["id"] for one in messages(on_redis)] == [call.id for call in calls]


@needs_pipelines
def test_what_does_not_give_back_its_own_text_is_no_mould(
    on_redis: Celery, cast: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another kombu may write its messages in another way: then it goes on to."""
    monkeypatch.setattr(mould.Mould, "cast", lambda self, *_: self.text)
    ids = [f"sent-{number}" for number in range(len(ARGUMENTS))]
    assert [message[1] for message in published(on_redis, {}, ids)] == ids
    assert cast == []


def test_a_prefix_of_keys_is_the_transports(on_redis: Celery, cast: list[str]) -> None:
    """Where it puts something before the names of its lists, it is not put there twice."""
    on_redis.conf.broker_transport_options = {"global_keyprefix": "mine:"}
    ids = [f"sent-{number}" for number in range(len(ARGUMENTS))]
    assert [message[1] for message in published(on_redis, {}, ids)] == ids


@needs_pipelines
def test_a_pipeline_that_breaks_leaves_the_jobs_ready(
    on_redis: Celery, cast: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unknown what arrived, so nothing is marked, and the sweep sends all of it again."""

    def broken(self: Any) -> None:
        raise ConnectionError("gone")

    note = on_redis.tasks["shop.note"]
    batch = Batch.create(app=on_redis)
    with monkeypatch.context() as patch:
        # kombu's own pipeline is the first to be flushed, and holds two.
        patch.setattr(mould.Foundry, "flush", lambda self: broken(self) if self._texts else None)
        with batch.jobs():
            for number in range(4):
                note.delay(number)
    assert len(cast) == 2
    assert {job.state for job in batch.pending_jobs} == {"ready"}


# ---------------------------------------------------------------- who looks at each call


def sent_by_celery(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of those calls that went Celery's own way, of three."""
    ids, own = [], publisher.Publisher._send
    monkeypatch.setattr(
        publisher.Publisher, "_send", lambda self, job, producer: (ids.append(job.id), own(self, job, producer))[1]
    )
    published(app, {}, [f"{os.urandom(4).hex()}" for _ in ARGUMENTS])
    return ids


def test_celery_makes_the_first(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that are alike, one is built by Celery."""
    assert len(sent_by_celery(app, monkeypatch)) == 1


def by_a_signal(app: Celery) -> Callable[[], None]:
    """Somebody wants to see each message."""

    def see(**_: Any) -> None: ...

    signals.before_task_publish.connect(see, weak=False)
    return lambda: signals.before_task_publish.disconnect(see)


def by_a_router(app: Celery) -> Callable[[], None]:
    """A function decides about each call."""
    app.conf.task_routes = (lambda *_, **__: None,)
    return lambda: None


def by_events(app: Celery) -> Callable[[], None]:
    """Celery tells the world of each call."""
    app.conf.task_send_sent_event = True
    return lambda: None


def by_a_subclass(app: Celery) -> Callable[[], None]:
    """Somebody's own class of app sends calls."""

    class Traced(type(app)):  # type: ignore[misc] # the app's own class
        def send_task(self, *args: Any, **options: Any) -> Any:
            return super().send_task(*args, **options)

    own, app.__class__ = app.__class__, Traced
    return lambda: setattr(app, "__class__", own)


@pytest.mark.parametrize("watch", [by_a_signal, by_a_router, by_events, by_a_subclass])
def test_who_looks_at_each_call_sees_each(
    app: Celery, monkeypatch: pytest.MonkeyPatch, watch: Callable[[Celery], Callable[[], None]]
) -> None:
    """Then no message is made from another."""
    stop = watch(app)
    try:
        assert len(sent_by_celery(app, monkeypatch)) == len(ARGUMENTS)
    finally:
        stop()


def test_a_result_is_awaited_as_ever(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result backend hears of each call whose result may be asked for."""
    told: list[str] = []
    monkeypatch.setattr(app.backend, "on_task_call", lambda _, task_id: told.append(task_id))
    published(app, {}, [f"told-{number}" for number in range(len(ARGUMENTS))])
    assert len(told) == len(ARGUMENTS)
    published(app, {"ignore_result": True}, [f"quiet-{number}" for number in range(len(ARGUMENTS))])
    assert len(told) == len(ARGUMENTS)
