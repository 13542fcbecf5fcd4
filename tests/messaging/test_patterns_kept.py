"""A call is made like one of another time, as Celery would make it here and now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from apps import flows_app, messages, runtime_of
from celery import Celery, _state
from celery.app.amqp import AMQP
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Exchange, Producer, Queue
from locks import beside, outcome
from redis import Redis
from redis.client import Pipeline

from celery_flows import Batch, Flows
from celery_flows.messaging import publisher, template
from celery_flows.messaging.call import encode_options
from celery_flows.store.publishing import ReadyJob

#: Options of calls that are made again and again.
CALLS: list[dict[str, Any]] = [
    {},
    {"priority": 3},
    {"queue": "elsewhere"},
    {"ignore_result": True},
    {"root_id": "theirs"},
    {"parent_id": "theirs", "reply_to": "them"},
    {"compression": "gzip"},
    {"expires": 60},
    {"countdown": 5},
    {"eta": "2030-01-01T08:00:00+00:00"},
    {"argsrepr": "<hidden>", "kwargsrepr": "<hidden>"},
    {"correlation_id": "theirs"},
    {"shadow": "long " * 2000},
]

#: Of which each message is built anew.
OF_THE_MOMENT = {"expires", "countdown", "argsrepr", "correlation_id", "shadow"}

#: In which tasks the calls are made, one after another: id and root of each; None: outside of tasks.
WITHIN = (None, None, None, ("first", "root"), ("second", "root"), ("third", None), None)

needs_pipelines = pytest.mark.skipif(not hasattr(Producer, "batch"), reason="kombu has pipelines since 5.7")


@pytest.fixture(params=["memory", "redis"])
def app(request: pytest.FixtureRequest, file_url: str) -> Iterator[Celery]:
    """An app whose broker takes messages from kombu alone, or as texts too."""
    with flows_app(file_url) as app:
        if request.param == "redis":
            app.conf.update(broker_url=request.getfixturevalue("redis_url"), task_default_queue=_unheard_of())
        # Before that, Celery does not know what its tasks say of calls by name.
        app.finalize()
        yield app


@pytest.fixture
def on_redis(file_url: str, redis_url: str) -> Iterator[Celery]:
    """An app whose broker takes messages as texts."""
    with flows_app(file_url) as app:
        app.conf.update(broker_url=redis_url, task_default_queue=_unheard_of())
        yield app


def overheard(patch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    """Note the first argument of each call of a method."""
    noted: list[Any] = []
    own = getattr(owner, name)

    def noting(self: Any, first: Any, *more: Any) -> Any:
        noted.append(first)
        return own(self, first, *more)

    patch.setattr(owner, name, noting)
    return noted


def fails_once(patch: pytest.MonkeyPatch, owner: type, name: str, error: Exception) -> None:
    """Let the next call of a method raise, and those after it not."""
    own, errors = getattr(owner, name), [error]

    def failing(self: Any, *args: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return own(self, *args, **options)

    patch.setattr(owner, name, failing)


@pytest.fixture
def own_way(monkeypatch: pytest.MonkeyPatch) -> list[ReadyJob]:
    """The jobs that went Celery's own way."""
    return overheard(monkeypatch, publisher.Publisher, "_send")


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """To which lists messages were pushed alone."""
    return overheard(monkeypatch, publisher.NotingProducer, "push")


def ids(jobs: list[ReadyJob]) -> list[str]:
    """Which jobs these are."""
    return [job.id for job in jobs]


def _unheard_of() -> str:
    return f"kept-{os.urandom(4).hex()}"


def call(app: Celery, task_id: str, **options: Any) -> None:
    """A block of one call, of which the row says where it was made."""
    with Batch.create(app=app).jobs():
        app.tasks["shop.note"].apply_async((1, "a"), {"by": "name"}, task_id=task_id, **options)


def publish(app: Celery, task_id: str, **options: Any) -> None:
    """Publish a job as a step's or a callback's is, of which nothing says where it was made."""
    stored = encode_options("shop.note", options)
    job = ReadyJob(task_id, "batch", None, "task", "ready", "shop.note", '[1, "a"]', '{"by": "name"}', stored, 1)
    assert runtime_of(app).publisher.publish([job]) == 1


@contextmanager
def within(app: Celery, task: tuple[str, str | None] | None, **request: Any) -> Iterator[None]:
    """As a worker runs a task: its id, and its root."""
    if task is None:
        yield
        return
    parent = app.tasks["shop.add"]
    _state._task_stack.push(parent)
    parent.push_request(id=task[0], root_id=task[1], called_directly=False, **request)
    try:
        yield
    finally:
        parent.pop_request()
        _state._task_stack.pop()


Way: TypeAlias = Callable[..., None]


def one_by_one(app: Celery, way: Way, options: dict[str, Any], prefix: str) -> list[Any]:
    """Let messages go alone, in tasks and outside; what they say."""
    for number, task in enumerate(WITHIN):
        with within(app, task):
            way(app, f"{prefix}-{number}", **options)
    found = messages(app, options.get("queue"))
    return [(_lasting(one.headers), _known(one.properties), one.payload) for one in found]


def _lasting(headers: dict[str, Any]) -> dict[str, Any]:
    ours = {key: value for key, value in headers["flows"].items() if key != "batch"}
    return {**headers, "flows": ours, "eta": bool(headers["eta"]), "expires": bool(headers["expires"])}


def _known(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: properties.get(key) for key in ("correlation_id", "reply_to", "priority", "delivery_info")}


@pytest.mark.parametrize("options", CALLS, ids=str)
@pytest.mark.parametrize("way", [call, publish])
def test_they_are_as_celery_makes_them(
    app: Celery, monkeypatch: pytest.MonkeyPatch, own_way: list[ReadyJob], way: Way, options: dict[str, Any]
) -> None:
    """In blocks of their own too, and wherever each is made: Celery makes the first, and what is of the moment."""
    kept = one_by_one(app, way, options, "made")
    assert len(kept) == len(WITHIN)
    assert len(own_way) == (len(WITHIN) if OF_THE_MOMENT & options.keys() else 1)
    monkeypatch.setattr(template, "is_plain", lambda _: False)
    assert str(kept) == str(one_by_one(app, way, options, "sent")).replace("sent-", "made-")
    assert len(own_way) > len(WITHIN)


def test_each_thread_is_answered_by_itself(app: Celery) -> None:
    """A caller's results come to a queue of its thread's own, whoever made the pattern."""
    own: dict[str, str] = {}

    def threes(name: str) -> None:
        own[name] = app.thread_oid
        for number in range(3):
            publish(app, f"{name}-{number}")

    threes("first")
    outcome(beside(threes, "second"))
    found = {one.headers["id"]: one.properties["reply_to"] for one in messages(app)}
    assert found == {f"{name}-{number}": oid for name, oid in own.items() for number in range(3)}
    assert own["first"] != own["second"]


@needs_pipelines
def test_a_single_message_is_pushed_as_a_text(
    on_redis: Celery, pushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is Celery's; the second goes through a pipeline, where its text is seen; the others are pushed."""
    taken: list[Any] = []
    batch = Producer.batch
    monkeypatch.setattr(Producer, "batch", lambda self, *a, **kw: (taken.append(self), batch(self, *a, **kw))[1])
    for number, expected in enumerate([(0, 0), (1, 0), (1, 1), (1, 2)]):
        call(on_redis, f"alone-{number}")
        assert (len(taken), len(pushed)) == expected
    assert [one.headers["id"] for one in messages(on_redis)] == [f"alone-{number}" for number in range(4)]


@needs_pipelines
def test_what_is_not_taken_as_a_text_goes_kombus_way(
    on_redis: Celery, pushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which tries again where the connection was lost: the job does not wait for the sweep."""
    for number in range(3):
        call(on_redis, f"taken-{number}")
    with monkeypatch.context() as patch:
        fails_once(patch, Redis, "lpush", ConnectionError("gone"))
        batch = Batch.create(app=on_redis)
        with batch.jobs():
            on_redis.tasks["shop.note"].apply_async((1, "a"), {"by": "name"}, task_id="refused")
    assert len(pushed) == 2
    assert [one.headers["id"] for one in messages(on_redis)][3:] == ["refused"]
    assert [job.state for job in batch.pending_jobs] == ["queued"]


# ---------------------------------------------------------------- when it is forgotten


def test_a_new_default_queue_is_used(app: Celery, own_way: list[ReadyJob]) -> None:
    """By calls that were made before to another."""
    call(app, "before")
    before = app.conf.task_default_queue
    app.conf.task_default_queue = after = _unheard_of()
    call(app, "after")
    assert [[one.headers["id"] for one in messages(app, name)] for name in (before, after)] == [
        ["before"],
        ["after"],
    ]


def test_new_routes_are_taken(app: Celery) -> None:
    """By calls that were made before on others."""
    call(app, "before")
    app.conf.update(task_routes={"shop.note": {"queue": (elsewhere := _unheard_of())}})
    call(app, "after")
    assert [one.headers["id"] for one in messages(app, elsewhere)] == ["after"]


def test_another_process_begins_anew(
    app: Celery, own_way: list[ReadyJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages name the process that they come from."""
    call(app, "parent")
    monkeypatch.setattr(template, "os", SimpleNamespace(getpid=lambda: -1))
    call(app, "child")
    assert ids(own_way) == ["parent", "child"]


def test_a_parents_priority_is_its_own(app: Celery) -> None:
    """Where calls have that of the task that makes them."""
    app.conf.task_inherit_parent_priority = True
    for number, priority in enumerate([3, 3, 3, 5, 5, 5, None]):
        with within(app, (f"parent-{number}", None), delivery_info={"priority": priority}):
            publish(app, f"child-{number}", queue="by-priority")
            # Celery lets no call inherit that says itself where it comes from.
            publish(app, f"guest-{number}", queue="by-priority", root_id="theirs", parent_id="theirs")
    found = {one.headers["id"]: one.properties["priority"] for one in messages(app, "by-priority")}
    assert [found[f"child-{number}"] for number in range(7)] == [3, 3, 3, 5, 5, 5, 0]
    assert [found[f"guest-{number}"] for number in range(7)] == [0] * 7


def test_a_task_that_becomes_known_is_asked(app: Celery, own_way: list[ReadyJob]) -> None:
    """Celery (5.7) sends a call by name as its task says, once there is one."""

    def by_name() -> None:
        with Batch.create(app=app).jobs():
            app.send_task("shop.late")

    def late() -> None: ...

    by_name()
    by_name()
    app.task(name="shop.late", shared=False)(late)
    by_name()
    assert len(own_way) == 2


def test_no_more_is_kept_than_that(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are never alike do not fill the memory."""
    monkeypatch.setattr(template, "_MOST", 4)
    sizes = []
    for number in range(12):
        call(app, f"other-{number}", shadow=f"shadow {number}")
        sizes.append(len(runtime_of(app).publisher._memory._kept.patterns))
    assert max(sizes) == 5


@pytest.mark.skipif(not hasattr(AMQP, "_retry_publish"), reason="Celery has the setting since 5.7")
def test_arguments_are_described_as_deep_as_asked(app: Celery, own_way: list[ReadyJob]) -> None:
    """What a message says of its arguments is Celery's to say."""
    app.conf.task_repr_maxlevels = 1
    call(app, "deep")
    call(app, "deeper")
    assert ids(own_way) == ["deep", "deeper"]


@pytest.mark.skipif(not hasattr(AMQP, "_retry_publish"), reason="Celery does so since 5.7")
def test_how_celery_publishes_callbacks_is_no_pattern(app: Celery, own_way: list[ReadyJob]) -> None:
    """It tries again by itself then, so that a producer is told not to."""
    app.amqp._retry_publish(call, app, "callback")
    call(app, "call")
    call(app, "another")
    assert ids(own_way) == ["callback", "call"]


def test_who_goes_on_with_what_was_known_spoils_nothing(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is slow while routes change keeps what it learns to itself."""
    send, elsewhere = publisher.Publisher._send, _unheard_of()

    def slow(self: publisher.Publisher, job: ReadyJob, producer: Any) -> None:
        send(self, job, producer)
        app.conf.update(task_routes={"shop.note": {"queue": elsewhere}})
        outcome(beside(call, app, "beside"))

    with monkeypatch.context() as patch:
        patch.setattr(publisher.Publisher, "_send", lambda *args: (patch.undo(), slow(*args))[1])
        call(app, "slow")
    for number in range(3):
        call(app, f"after-{number}")
    assert [one.headers["id"] for one in messages(app)] == ["slow"]
    assert len(messages(app, elsewhere)) == 4


@pytest.mark.skipif(not hasattr(AMQP, "_retry_publish"), reason="Celery does so since 5.7")
def test_how_long_a_task_says_that_its_calls_are_good(app: Celery) -> None:
    """Counts for each from its own moment."""
    app.task(name="shop.fresh", shared=False, expires=60)(shop_fresh)
    for _ in range(3):
        with Batch.create(app=app).jobs():
            app.send_task("shop.fresh")
    assert len({one.headers["expires"] for one in messages(app)}) == 3


def shop_fresh() -> None:
    """Do nothing."""


def test_how_long_a_broker_is_to_delay_is_said_anew(app: Celery, own_way: list[ReadyJob]) -> None:
    """Celery has an exchange that delays, and tells it the time from now; with others it does no harm."""
    exchange = Exchange(_unheard_of(), type="topic")
    app.conf.update(task_queues=[Queue("delayed", exchange, routing_key="a.b")])
    for number in range(3):
        call(app, f"later-{number}", queue="delayed", eta="2030-01-01T08:00:00+00:00")
    assert len(own_way) == 3


def test_queues_bound_later_are_reached(on_redis: Celery) -> None:
    """What an exchange hands on, it hands on to whatever is bound to it by then."""
    exchange = Exchange(_unheard_of(), type="topic")
    one, two = (Queue(_unheard_of(), exchange, routing_key=key) for key in ("a.*", "a.#"))
    on_redis.conf.update(task_queues=[one], task_routes={"shop.note": {"queue": one.name, "routing_key": "a.b"}})
    for number in range(3):
        call(on_redis, f"early-{number}")
    with on_redis.connection_for_write() as connection, connection.channel() as channel:
        two(channel).declare()
    for number in range(3):
        call(on_redis, f"late-{number}")
    assert [len(messages(on_redis, queue.name)) for queue in (one, two)] == [6, 3]


# ---------------------------------------------------------------- who looks at each call


def by_a_wrapper(app: Celery, patch: pytest.MonkeyPatch, see: Callable[[], None]) -> None:
    """Tracing tools put theirs around Celery's, under its name."""
    own = Celery.send_task

    @wraps(own)
    def traced(self: Celery, *args: Any, **options: Any) -> Any:
        see()
        return own(self, *args, **options)

    patch.setattr(Celery, "send_task", traced)


def by_a_proxy(app: Celery, patch: pytest.MonkeyPatch, see: Callable[[], None]) -> None:
    """Others put an object in its place, which looks like what it stands for."""

    class Proxy:
        def __init__(self, own: Any) -> None:
            self.__wrapped__, self.__code__ = own, own.__code__

        def __call__(self, *args: Any, **options: Any) -> Any:
            see()
            return self.__wrapped__(*args, **options)

    patch.setattr(Celery, "send_task", Proxy(Celery.send_task))


def by_a_maker_of_messages(app: Celery, patch: pytest.MonkeyPatch, see: Callable[[], None]) -> None:
    """An AMQP class of somebody's own says more in each message."""

    class Own(AMQP):
        def as_task_v2(self, *args: Any, **options: Any) -> Any:
            see()
            return super().as_task_v2(*args, **options)

    app.amqp = Own(app)


def by_a_producer(app: Celery, patch: pytest.MonkeyPatch, see: Callable[[], None]) -> None:
    """Somebody else's producer hands on what it is given."""
    own = Producer.publish

    def publish(self: Producer, *args: Any, **options: Any) -> Any:
        see()
        return own(self, *args, **options)

    patch.setattr(Producer, "publish", publish)


@pytest.mark.parametrize("watch", [by_a_wrapper, by_a_proxy, by_a_maker_of_messages, by_a_producer])
def test_who_looks_at_each_call_sees_each(
    app: Celery, monkeypatch: pytest.MonkeyPatch, watch: Callable[..., None]
) -> None:
    """However it has come in between."""
    seen: list[None] = []
    watch(app, monkeypatch, lambda: seen.append(None))
    for number in range(5):
        call(app, f"seen-{number}")
    assert len(seen) == 5


def test_an_app_is_not_finalized_by_publishing(file_url: str) -> None:
    """Its user may have said that he does so himself."""
    app = Celery("late", broker="memory://", set_as_current=False, autofinalize=False)
    Flows(app, database_url=file_url)
    with Batch.create(app=app).jobs():
        app.send_task("elsewhere")
    assert not app.finalized
    runtime_of(app).database.close()


@needs_pipelines
@pytest.mark.parametrize(
    ("after", "size", "where"), [(0, 1, (Redis, "lpush")), (3, 1, (Redis, "lpush")), (3, 2, (Pipeline, "execute"))]
)
def test_a_time_limit_is_its_tasks(
    on_redis: Celery, monkeypatch: pytest.MonkeyPatch, after: int, size: int, where: tuple[type, str]
) -> None:
    """A task that is interrupted while it publishes hears of it, and the sweep sees to the message."""
    for number in range(after):
        call(on_redis, f"taken-{number}")

    fails_once(monkeypatch, *where, SoftTimeLimitExceeded())
    batch = Batch.create(app=on_redis)
    with pytest.raises(SoftTimeLimitExceeded), batch.jobs():
        for _ in range(size):
            on_redis.tasks["shop.note"].apply_async((1, "a"), {"by": "name"})
    assert [job.state for job in batch.pending_jobs] == ["ready"] * size
