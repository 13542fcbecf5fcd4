"""The memory of a run where it has limits, ends, or is away: in Redis, or in any object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from apps import flows_app, plain_app, runtime_of, work
from redis import Redis
from remembering import DictMemory

from celery_flows import Batch, Flows, current_job
from celery_flows.errors import (
    ConfigurationError,
    InvalidSetting,
    MemoryExpired,
    MemoryTooLarge,
    NotStorable,
)
from celery_flows.memory import RedisMemory


@pytest.mark.parametrize("limit", ["memory_value_max_bytes", "memory_max_bytes"])
def test_limits(file_url: str, limit: str) -> None:
    """Of one value where it is written, of a run at the commit: the job fails, and what it wrote is gone."""
    with flows_app(file_url, **{limit: 10}) as app:
        app.set_current()

        @app.task(name="shop.fill", shared=False)
        def fill(**values: str) -> None:
            job = current_job()
            assert job is not None
            job.memory.write(values)

        with (batch := Batch.create()).jobs():
            fill.delay(a="12345678")
        work(app)
        assert batch.status == "complete"
        with (batch := Batch.create()).jobs():
            fill.delay(a="123456789") if "value" in limit else fill.delay(a="1234", b="1234567")
        work(app)
        assert (batch.failed_jobs[0].error_class, batch.memory.read()) == ("MemoryTooLarge", {})
        assert f"may have 10 (the setting {limit})" in batch.failed_jobs[0].error_message
        with pytest.raises(MemoryTooLarge):
            batch.memory.write(a="123456789")


def test_a_run_may_not_remember_too_much_elsewhere(file_url: str, redis_memory: RedisMemory) -> None:
    """The same with what is not in the database."""
    with flows_app(file_url, memory=redis_memory, memory_max_bytes=10) as app:
        app.set_current()
        batch = Batch.create()
        batch.memory.write(a="12345678")
        with pytest.raises(MemoryTooLarge, match="memory_max_bytes"):
            batch.memory.write(b=1)
        assert batch.memory.read() == {"a": "12345678"}


@pytest.mark.parametrize("wrong", [object(), RedisMemory, 3])
def test_what_keeps_no_memory_is_refused_at_set_up(file_url: str, wrong: Any) -> None:
    """With what it must have; of one that is named by a dotted name, when it is first needed."""
    with pytest.raises(InvalidSetting, match=r"'memory' is .* the methods write, read and clear"):
        Flows(plain_app(), database_url=file_url, memory=wrong)
    app = plain_app()
    Flows(app, database_url=file_url, memory="celery_flows.memory.RedisMemory")
    with pytest.raises(InvalidSetting, match="flows_memory"):
        _ = runtime_of(app).memory


@pytest.mark.parametrize("wrong", [3, None])
def test_what_is_no_merge_is_refused(file_url: str, wrong: Any) -> None:
    """It says which, and what may stand there."""
    app = plain_app()
    Flows(app, database_url=file_url, merges={"a": wrong})
    with pytest.raises(InvalidSetting, match=r"flows_merges\['a'\].*'sum', 'append', 'union'"):
        _ = runtime_of(app).merges


def test_a_memory_in_redis_needs_a_place() -> None:
    """A URL or a client, one of the two."""
    with pytest.raises(ConfigurationError, match="a URL or a client"):
        RedisMemory()


def test_an_expired_memory_is_an_error(file_url: str, redis_url: str, redis_memory: RedisMemory) -> None:
    """Not an empty one: who reads would go on with nothing. A job may prolong it."""
    with flows_app(file_url, memory=redis_memory) as app, Redis.from_url(redis_url) as client:
        app.set_current()
        batch = Batch.create()
        [name] = client.keys(f"{redis_memory._prefix}*")
        assert 604_790 < client.ttl(name) <= 604_800

        @app.task(name="shop.prolong", shared=False)
        def prolong() -> None:
            job = current_job()
            assert job is not None
            job.memory.extend_ttl(1_000_000)
            job.memory.write(a=1)

        with batch.jobs():
            prolong.delay()
        work(app)
        assert batch.status == "complete"
        assert client.ttl(name) > 999_000
        client.delete(name)
        for ask in (batch.memory.read, lambda: batch.memory.write(a=1), lambda: batch.memory.extend_ttl(5)):
            with pytest.raises(MemoryExpired, match="extend_ttl"):
                ask()


def test_the_database_has_no_ttl(file_url: str) -> None:
    """Who asks for more time is told that there is no end."""
    with flows_app(file_url) as app:
        app.set_current()
        with pytest.raises(NotStorable, match="kept until the run is pruned"):
            Batch.create().memory.extend_ttl(5)


def test_a_memory_that_is_away_fails_the_job(file_url: str) -> None:
    """It says what was not done, and the job can be run again."""

    class Away(DictMemory):
        def write(self, run_id: str, mapping: Mapping[str, str | None]) -> None:
            if self.is_away:
                raise OSError("no route")
            super().write(run_id, mapping)

    memory = Away()
    with flows_app(file_url, memory=memory) as app:
        app.set_current()

        @app.task(name="shop.answer", shared=False, remember=True)
        def answer() -> Any:
            return {"a": 1}

        with (batch := Batch.create()).jobs():
            answer.delay()
        memory.is_away = True
        work(app)
        assert batch.failed_jobs[0].error_class == "MemoryUnavailable"
        assert "could not be written (OSError: no route)" in batch.failed_jobs[0].error_message
        memory.is_away = False
        batch.retry()
        work(app)
        assert (batch.status, batch.memory.read()) == ("complete", {"a": 1})


def test_it_is_sealed_wherever_it_is(file_url: str) -> None:
    """A codec hides what is remembered elsewhere as well."""

    class Reverse:
        def encode(self, text: str) -> str:
            return text[::-1]

        def decode(self, text: str) -> str:
            return text[::-1]

    memory = DictMemory()
    with flows_app(file_url, memory=memory, codec=Reverse()) as app:
        app.set_current()
        batch = Batch.create()
        batch.memory.write(a="secret")
        assert "secret" not in str(memory.runs)
        assert batch.memory.read() == {"a": "secret"}


def test_pruned_with_its_run(file_url: str) -> None:
    """What is kept elsewhere goes with the batch; where that can't be reached, the batch goes all the same."""
    memory = DictMemory()
    with flows_app(file_url, memory=memory) as app:
        app.set_current()
        for _ in range(2):
            batch = Batch.create()
            batch.memory.write(a=1)
            batch.cancel()
            assert list(memory.runs) == [batch.id]
            assert runtime_of(app).prune(0) == 1
            assert memory.runs.keys() == ({batch.id} if memory.is_away else set())
            memory.runs, memory.is_away = {}, True


def test_a_long_memory_is_not_read_at_each_write(
    file_url: str, redis_memory: RedisMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would be most of the work of many jobs; where much is written it is measured all the same."""
    wholes: list[str] = []

    class Seen(RedisMemory):
        def read(self, run_id: str, keys: Any) -> dict[str, str]:
            if keys is None:
                wholes.append(run_id)
            return super().read(run_id, keys)

    monkeypatch.setattr("celery_flows.messaging.memory._FEW", 3)
    monkeypatch.setattr("celery_flows.messaging.memory.randrange", lambda _: 1)
    memory = Seen(redis_memory._url, prefix=redis_memory._prefix)
    with flows_app(file_url, memory=memory, memory_max_bytes=1000) as app:
        app.set_current()
        batch = Batch.create()
        for number in range(9):
            batch.memory.write({f"key{number}": number})
        assert len(wholes) == 4
        with pytest.raises(MemoryTooLarge):
            batch.memory.write(a="x" * 1000)
        batch.memory.clear("key3")
        assert sorted(batch.memory.read()) == [f"key{number}" for number in range(9) if number != 3]


def test_a_long_memory_in_the_database_is_measured_now_and_then(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one write in a hundred, by chance; then it is refused as any."""
    chance = [1]
    monkeypatch.setattr("celery_flows.messaging.memory._FEW", 3)
    monkeypatch.setattr("celery_flows.messaging.memory.randrange", lambda _: chance[0])
    with flows_app(file_url, memory_max_bytes=1000) as app:
        app.set_current()
        batch = Batch.create()
        for number in range(150):
            batch.memory.write({f"key{number}": "12345678"})
        chance[0] = 0
        with pytest.raises(MemoryTooLarge, match="would be 1510 bytes long"):
            batch.memory.write(last="12345678")
