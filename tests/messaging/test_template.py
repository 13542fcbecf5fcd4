"""Messages that are made from the one before are those that Celery would have made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apps import flows_app, messages
from celery import Celery, signals

from celery_flows import Batch
from celery_flows.messaging import publisher, template

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
    monkeypatch.setattr(template, "_is_plain", lambda _: False)
    one_by_one = published(app, options, [f"made-{number}-" for number in range(len(ARGUMENTS))])
    assert len(made) == len(ARGUMENTS)
    assert str(made) == str(one_by_one).replace("-'", "'")


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
